using Microsoft.Extensions.Time.Testing;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Storage;

public sealed class SqliteSessionStoreTests : SessionStoreContract, IDisposable
{
    private readonly TestFolder _folder = new();
    private int _files;

    // Each sequence has a file of its own, and each change a sync of the disk.
    protected override int ModelSequences => 40;

    public void Dispose() => _folder.Dispose();

    private protected override Task<TestStore> OpenAsync(SessionSettings settings, FakeTimeProvider time) =>
        Task.FromResult(new TestStore(SqliteTests.Open(_folder[$"{Interlocked.Increment(ref _files)}.db"], settings, time), time, settings));
}
