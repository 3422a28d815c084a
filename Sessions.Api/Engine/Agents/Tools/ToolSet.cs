using System.Collections.Frozen;
using ModelContextProtocol.Client;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Agents.Tools;

/// <summary>A tool as a model is offered it.</summary>
/// <param name="Name">The name that the model calls it by.</param>
/// <param name="Server">Its server.</param>
/// <param name="Tool">What it is there.</param>
internal sealed record OfferedTool(string Name, ToolServer Server, McpClientTool Tool);

/// <summary>All tools of an agent.</summary>
/// <param name="servers">Its tool servers.</param>
internal sealed class ToolSet(IReadOnlyList<ToolServer> servers) : IAsyncDisposable
{
    // What models take as a function's name.
    private const int MaxNameLength = 64;

    private volatile Offer? _last;

    /// <summary>The servers.</summary>
    public IReadOnlyList<ToolServer> Servers => servers;

    /// <summary>The tools as they were told last.</summary>
    public IReadOnlyList<AgentTool> Tools => [.. servers.SelectMany(server => server.Tools)];

    /// <summary>Connects to those servers that are not connected, and gives their tools by the names that the model is to use.</summary>
    /// <exception cref="AgentException"><c>agent_tools_unavailable</c>: one can't be reached.</exception>
    public async ValueTask<FrozenDictionary<string, OfferedTool>> ConnectAsync(CancellationToken cancellationToken)
    {
        try
        {
            var lists = await Task.WhenAll(servers.Select(server => server.ConnectAsync(cancellationToken).AsTask()));
            if (_last is { } last && last.IsOf(lists))
            {
                return last.Tools;
            }

            var made = new Offer(lists, OfferOf(lists));
            _last = made;
            return made.Tools;
        }
        catch (ToolServerException e)
        {
            // No tool has run: another try does no harm.
            var error = new Error("agent_tools_unavailable", e.Message) { RetryAfter = ToolServer.RetryAfter, MayRetry = true };
            throw new AgentException(error, e.InnerException);
        }
    }

    public async ValueTask DisposeAsync() => await Task.WhenAll(servers.Select(server => server.DisposeAsync().AsTask()));

    private FrozenDictionary<string, OfferedTool> OfferOf(IReadOnlyList<McpClientTool>[] lists)
    {
        var all = servers.Zip(lists)
            .SelectMany(list => list.Second.Select(tool => (Server: list.First, Tool: tool, Name: NameOf(tool.Name))))
            .ToList();
        var doubles = all.CountBy(tool => tool.Name)
            .Where(count => count.Value > 1)
            .Select(count => count.Key)
            .ToHashSet(StringComparer.Ordinal);
        return all.Select(tool => new OfferedTool(
                doubles.Contains(tool.Name) ? NameOf($"{tool.Server.Name}_{tool.Name}") : tool.Name, tool.Server, tool.Tool))
            .DistinctBy(tool => tool.Name, StringComparer.Ordinal)
            .ToFrozenDictionary(tool => tool.Name, StringComparer.Ordinal);
    }

    private static string NameOf(string name) =>
        string.Create(Math.Min(name.Length, MaxNameLength), name, static (written, name) =>
        {
            for (var i = 0; i < written.Length; i++)
            {
                written[i] = char.IsAsciiLetterOrDigit(name[i]) || name[i] is '_' or '-' ? name[i] : '_';
            }
        });

    // A server that is asked again what it has gives another list.
    private sealed record Offer(IReadOnlyList<McpClientTool>[] Lists, FrozenDictionary<string, OfferedTool> Tools)
    {
        public bool IsOf(IReadOnlyList<McpClientTool>[] lists) => Lists.AsSpan().SequenceEqual(lists, ReferenceEqualityComparer.Instance);
    }
}
