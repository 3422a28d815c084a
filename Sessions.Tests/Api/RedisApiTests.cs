namespace Sessions.Tests.Api;

public sealed class RedisApiTests(RedisFixture redis) : ApiContract
{
    private string _connection = "";

    private protected override IEnumerable<(string Key, string Value)> Storage =>
        [("sessions:storage_type", "redis"), ("ConnectionStrings:redis", _connection)];

    private protected override string StorageName => "redis";

    public override async ValueTask InitializeAsync() => _connection = await redis.NewDatabaseAsync();

    // Another process, on what the one before has left.
    private protected override async Task<SessionsServer> RestartAsync(SessionsServer server)
    {
        await server.DisposeAsync();
        return Start(("limits:page_size_max", "1000"));
    }
}

// A cluster has no databases to be apart in: one of its own, emptied before each test.
public sealed class RedisClusterApiTests(RedisClusterApiTests.Cluster cluster) : ApiContract, IClassFixture<RedisClusterApiTests.Cluster>
{
    private string _connection = "";

    private protected override IEnumerable<(string Key, string Value)> Storage =>
        [("sessions:storage_type", "redis"), ("ConnectionStrings:redis", _connection)];

    private protected override string StorageName => "redis";

    public override async ValueTask InitializeAsync() => _connection = await cluster.Redis.EmptyAsync();

    private protected override async Task<SessionsServer> RestartAsync(SessionsServer server)
    {
        await server.DisposeAsync();
        return Start(("limits:page_size_max", "1000"));
    }

    public sealed class Cluster : IAsyncDisposable
    {
        internal RedisClusterFixture Redis { get; } = new();

        public ValueTask DisposeAsync() => Redis.DisposeAsync();
    }
}

public sealed class GarnetApiTests(GarnetApiTests.Garnet garnet) : ApiContract, IClassFixture<GarnetApiTests.Garnet>
{
    private string _connection = "";

    private protected override IEnumerable<(string Key, string Value)> Storage =>
        [("sessions:storage_type", "redis"), ("ConnectionStrings:redis", _connection)];

    private protected override string StorageName => "redis";

    public override async ValueTask InitializeAsync() => _connection = await garnet.Server.EmptyAsync();

    private protected override async Task<SessionsServer> RestartAsync(SessionsServer server)
    {
        await server.DisposeAsync();
        return Start(("limits:page_size_max", "1000"));
    }

    public sealed class Garnet : IDisposable
    {
        internal GarnetFixture.Server Server { get; } = new();

        public void Dispose() => Server.Dispose();
    }
}
