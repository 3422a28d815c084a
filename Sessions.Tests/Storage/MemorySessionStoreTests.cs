using Microsoft.Extensions.Time.Testing;
using Sessions.Api;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Storage;

public sealed class MemorySessionStoreTests : SessionStoreContract
{
    private protected override Task<TestStore> OpenAsync(SessionSettings settings, FakeTimeProvider time) =>
        Task.FromResult(new TestStore(new MemorySessionStore(settings, time, TestStore.NewMetrics()), time, settings));
}
