using Microsoft.Extensions.Time.Testing;

namespace Sessions.Tests.Storage.Postgres;

public sealed class PostgresSessionStoreTests(PostgresFixture postgres) : StoreContract
{
    // Each step goes over a socket, and each sequence makes tables of its own.
    protected override int ModelSequences => 15;

    private protected override ValueTask<TestStore> OpenAsync(StorePolicy policy, FakeTimeProvider time) =>
        postgres.OpenAsync(policy, time);
}
