using Microsoft.Extensions.Time.Testing;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Storage;

/// <summary>A SQLite store that remembers last turns, as it does in a server, is the same store.</summary>
public sealed class RememberingSessionStoreTests : SessionStoreContract, IDisposable
{
    private readonly TestFolder _folder = new();
    private int _files;

    // Each sequence has a file of its own, and each change a sync of the disk.
    protected override int ModelSequences => 40;

    public void Dispose() => _folder.Dispose();

    private protected override Task<TestStore> OpenAsync(SessionSettings settings, FakeTimeProvider time)
    {
        var store = new RememberingStore(_folder[$"{Interlocked.Increment(ref _files)}.db"], settings, time);
        return Task.FromResult(new TestStore(store.Store, time, settings, store));
    }
}
