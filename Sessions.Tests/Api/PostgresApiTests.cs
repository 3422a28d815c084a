
namespace Sessions.Tests.Api;

public class PostgresApiTests(PostgresFixture postgres) : ApiContract
{
    private string _connection = "";

    private protected override IEnumerable<(string Key, string Value)> Storage =>
        [("sessions:storage_type", "postgres"), ("ConnectionStrings:postgres", _connection)];

    private protected override string StorageName => "postgres";

    public override async ValueTask InitializeAsync() => _connection = await postgres.NewSchemaAsync();

    // Another process, on what the one before has left.
    private protected override async Task<SessionsServer> RestartAsync(SessionsServer server)
    {
        await server.DisposeAsync();
        return Start(("limits:page_size_max", "1000"));
    }
}

public sealed class EncryptedPostgresApiTests(PostgresFixture postgres) : PostgresApiTests(postgres)
{
    private readonly string _key = Convert.ToBase64String(System.Security.Cryptography.RandomNumberGenerator.GetBytes(32));

    private protected override IEnumerable<(string Key, string Value)> Storage =>
        [.. base.Storage, ("encryption:enabled", "true"), ("encryption:master_key", _key)];
}
