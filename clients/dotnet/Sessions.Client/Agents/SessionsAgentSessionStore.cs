using System.Diagnostics.CodeAnalysis;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Agents.AI;

namespace Sessions.Client;

/// <summary>
/// Keeps sessions of agents, for programs that host them: each is a session of the server's. The partition that names the user is the
/// session's user; all others, and the agent's name, tell sessions apart.
/// </summary>
/// <remarks>
/// <para>
/// Made for agents whose history the server keeps anyway: with a <see cref="SessionsChatHistoryProvider"/> or a
/// <see cref="SessionsChatClient"/>, a session that <see cref="GetOrCreateSessionAsync"/> begins and its conversation are one
/// session of the server's, which is deleted, erased and expires as one.
/// </para>
/// <para>
/// An agent must have a name that stays: its id is another one after each start, unless you set it. What is saved may have 16 KiB, the
/// bound of a session's metadata: an agent whose history is in its own session passes that soon.
/// </para>
/// </remarks>
[Experimental("MAAI001")]
public sealed class SessionsAgentSessionStore : AgentSessionStore
{
    private const string State = "agent_session";
    private const string Agent = "agent_name";

    private readonly SessionsClient _client;
    private readonly string _userPartition;

    /// <summary>Creates one.</summary>
    /// <param name="client">The server.</param>
    /// <param name="userPartition">The partition that names the user.</param>
    public SessionsAgentSessionStore(SessionsClient client, string userPartition = "user")
    {
        ArgumentNullException.ThrowIfNull(client);
        ArgumentException.ThrowIfNullOrEmpty(userPartition);
        (_client, _userPartition) = (client, userPartition);
    }

    /// <inheritdoc/>
    public override async ValueTask SaveSessionAsync(
        AIAgent agent, AgentSessionStoreKey key, AgentSession session, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(agent);
        ArgumentNullException.ThrowIfNull(session);
        var (id, user) = Map(agent, key);
        var state = await agent.SerializeSessionAsync(session, cancellationToken: cancellationToken).ConfigureAwait(false);

        // As a text: a patch of an object would leave in it what is gone from the session.
        var metadata = new JsonObject { [State] = state.GetRawText(), [Agent] = NameOf(agent) };
        try
        {
            await _client.UpdateMetadataAsync(id, metadata, userId: user, cancellationToken: cancellationToken).ConfigureAwait(false);
        }
        catch (SessionsException e) when (e is { Status: HttpStatusCode.NotFound, Code: SessionsException.SessionNotFound })
        {
            await CreateAsync(id, user, metadata, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask<AgentSession?> GetSessionAsync(AIAgent agent, AgentSessionStoreKey key,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(agent);
        var (id, user) = Map(agent, key);
        var session = await _client.GetSessionAsync(id, user, cancellationToken).ConfigureAwait(false);
        if (session?.Metadata.Own?.TryGetValue(State, out var saved) != true || saved.ValueKind != JsonValueKind.String)
        {
            return null;
        }

        using var state = JsonDocument.Parse(saved.GetString()!);
        return await agent.DeserializeSessionAsync(state.RootElement.Clone(), cancellationToken: cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override async ValueTask<AgentSession> GetOrCreateSessionAsync(AIAgent agent, AgentSessionStoreKey key,
        CancellationToken cancellationToken = default)
    {
        if (await GetSessionAsync(agent, key, cancellationToken).ConfigureAwait(false) is { } found)
        {
            return found;
        }

        var (id, user) = Map(agent, key);
        if (agent.GetService<SessionsChatHistoryProvider>() is { } provider)
        {
            var session = await agent.CreateSessionAsync(cancellationToken).ConfigureAwait(false);
            provider.SetSessionId(session, id, user);
            return session;
        }

        if (agent.GetService<SessionsChatClient>() is not null)
        {
            await CreateAsync(id, user, new JsonObject { [Agent] = NameOf(agent) }, cancellationToken).ConfigureAwait(false);

            // How a ChatClientAgent writes a session whose history is at the service; its own method for that is in another package.
            using var state = JsonDocument.Parse(new JsonObject { ["conversationId"] = id }.ToJsonString());
            return await agent.DeserializeSessionAsync(state.RootElement.Clone(), cancellationToken: cancellationToken)
                .ConfigureAwait(false);
        }

        return await agent.CreateSessionAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override async ValueTask DeleteSessionAsync(AIAgent agent, AgentSessionStoreKey key,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(agent);
        var (id, user) = Map(agent, key);
        await _client.DeleteSessionAsync(id, user, cancellationToken).ConfigureAwait(false);
    }

    private async Task CreateAsync(string id, string? user, JsonObject metadata, CancellationToken cancellationToken)
    {
        try
        {
            await _client.CreateSessionAsync(new CreateSessionOptions { SessionId = id, UserId = user, Metadata = metadata },
                cancellationToken).ConfigureAwait(false);
        }
        catch (SessionsException e) when (e.Code == "session_exists")
        {
            // Another process was faster.
            await _client.UpdateMetadataAsync(id, metadata, userId: user, cancellationToken: cancellationToken).ConfigureAwait(false);
        }
    }

    private static string NameOf(AIAgent agent) => agent.Name ?? agent.Id;

    // Any names and values make an id that the server takes; each part with its length, so that no two keys make the same.
    private (string SessionId, string? UserId) Map(AIAgent agent, AgentSessionStoreKey key)
    {
        ArgumentNullException.ThrowIfNull(key);
        var identity = new StringBuilder();
        Append(NameOf(agent));
        Append(key.SessionId);
        string? user = null;
        foreach (var (name, value) in (key.Partitions ?? new Dictionary<string, string>())
            .OrderBy(partition => partition.Key, StringComparer.Ordinal))
        {
            Append(name);
            Append(value);
            user = name == _userPartition ? value : user;
        }

        return ($"agent-{Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(identity.ToString())).AsSpan(0, 20))}", user);

        void Append(string part) => identity.Append(part.Length).Append(':').Append(part);
    }
}
