using Microsoft.Extensions.Time.Testing;

namespace Sessions.Tests.Storage.Sqlite;

/// <summary>The SQLite store keeps the contract.</summary>
public sealed class SqliteSessionStoreTests : StoreContract, IDisposable
{
    private readonly TestFolder _folder = new();
    private int _files;

    // Each sequence has a file of its own, and each change a sync of the disk.
    protected override int ModelSequences => 40;

    public void Dispose() => _folder.Dispose();

    private protected override ValueTask<TestStore> OpenAsync(StorePolicy policy, FakeTimeProvider time)
    {
        var path = _folder[$"{Interlocked.Increment(ref _files)}.db"];
        return TestStore.OpenAsync(policy, time, p => new(SqliteTests.Open(path, p, time)));
    }
}
