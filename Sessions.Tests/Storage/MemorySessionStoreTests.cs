using Microsoft.Extensions.Time.Testing;

namespace Sessions.Tests.Storage;

public sealed class MemorySessionStoreTests : StoreContract
{
    private protected override ValueTask<TestStore> OpenAsync(StorePolicy policy, FakeTimeProvider time) =>
        TestStore.OpenAsync(policy, time, given => new(new MemorySessionStore(given, time)));
}
