using System.Text.Json.Nodes;
using Microsoft.Extensions.DependencyInjection;

namespace Sessions.Tests.Api;

/// <summary>What clients are promised, over HTTP. Each store's tests derive from this class.</summary>
public abstract partial class ApiContract : IAsyncLifetime
{
    private readonly List<SessionsServer> _servers = [];

    /// <summary>The settings that choose the store.</summary>
    private protected abstract IEnumerable<(string Key, string Value)> Storage { get; }

    /// <summary>The store as the API names it.</summary>
    private protected abstract string StorageName { get; }

    private protected SessionsServer Start(params (string Key, string Value)[] settings) => Start(settings, null);

    private protected SessionsServer Start(IEnumerable<(string Key, string Value)> settings, Action<IServiceCollection>? configure)
    {
        var server = SessionsServer.Start(Storage.Concat(settings), configure);
        _servers.Add(server);
        return server;
    }

    public virtual ValueTask InitializeAsync() => default;

    public virtual async ValueTask DisposeAsync()
    {
        foreach (var server in _servers)
        {
            await server.DisposeAsync();
        }

        GC.SuppressFinalize(this);
    }

    private static string Thread(JsonNode answer) => (string)answer["metadata"]!["thread_id"]!;

    private static IEnumerable<string> Ids(Answer list) =>
        list.Json["sessions"]!.AsArray().Select(session => (string)session!["session_id"]!);

    private static void AssertKeys(JsonNode? node, params string[] keys) =>
        Assert.Equal(keys.Order(), node!.AsObject().Select(property => property.Key).Order());
}

public sealed class MemoryApiTests : ApiContract
{
    private protected override IEnumerable<(string Key, string Value)> Storage => [("sessions:storage_type", "memory")];

    private protected override string StorageName => "memory";
}

public class SqliteApiTests : ApiContract
{
    private readonly TestFolder _folder = new();

    private protected override IEnumerable<(string Key, string Value)> Storage =>
        [("sessions:storage_type", "sqlite"), ("sessions:db_path", _folder["sessions.db"])];

    private protected override string StorageName => "sqlite";

    private protected override async Task<SessionsServer> RestartAsync(SessionsServer server)
    {
        await server.DisposeAsync();
        return Start(("limits:page_size_max", "1000"));
    }

    public override async ValueTask DisposeAsync()
    {
        await base.DisposeAsync();
        _folder.Dispose();
        GC.SuppressFinalize(this);
    }
}

public sealed class EncryptedSqliteApiTests : SqliteApiTests
{
    private readonly string _master = Convert.ToBase64String(System.Security.Cryptography.RandomNumberGenerator.GetBytes(32));

    private protected override IEnumerable<(string Key, string Value)> Storage =>
        [.. base.Storage, ("encryption:enabled", "true"), ("encryption:master_key", _master)];
}
