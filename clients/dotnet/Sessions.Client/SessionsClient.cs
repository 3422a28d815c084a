using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Sessions.Client.Http;

namespace Sessions.Client;

/// <summary>
/// The Sessions server's native API. Thread-safe; made by <c>services.AddSessionsClient("api")</c>, or on an <see cref="HttpClient"/>
/// whose base address is the server's. What goes wrong is a <see cref="SessionsException"/>.
/// </summary>
/// <remarks>
/// Where a method takes a <c>userId</c>, the session must be that user's: any other is not found. Without it, the session's id is enough,
/// unless the server authenticates its callers.
/// </remarks>
public sealed class SessionsClient
{
    private const int CopiedBytes = 64 * 1024;

    private readonly SessionsTransport _transport;

    /// <summary>Creates one on an HTTP client.</summary>
    /// <param name="http">With the server's address as its base address. It is not disposed of.</param>
    public SessionsClient(HttpClient http) : this(() => http) => ArgumentNullException.ThrowIfNull(http);

    internal SessionsClient(Func<HttpClient> createClient) => _transport = new SessionsTransport(createClient);

    internal SessionsTransport Transport => _transport;

    /// <summary>Creates a session.</summary>
    /// <exception cref="SessionsException"><c>session_exists</c>: the id is taken.</exception>
    public Task<Session> CreateSessionAsync(CreateSessionOptions? options = null, CancellationToken cancellationToken = default)
    {
        options ??= new CreateSessionOptions();
        return SendSessionAsync("create_session", options.SessionId,
            SessionsTransport.Request(HttpMethod.Post, "sessions", options, SessionsJson.Default.CreateSessionOptions,
                options.IdempotencyKey ?? SessionsTransport.NewKey()),
            cancellationToken);
    }

    /// <summary>Reads a session.</summary>
    /// <returns><see langword="null"/> where there is none, or it is another user's.</returns>
    public async Task<Session?> GetSessionAsync(string sessionId, string? userId = null, CancellationToken cancellationToken = default)
    {
        try
        {
            return await SendSessionAsync("get_session", sessionId,
                SessionsTransport.Request(HttpMethod.Get, Path(sessionId, "", userId)), cancellationToken)
                .ConfigureAwait(false);
        }
        catch (SessionsException e) when (e is { Status: HttpStatusCode.NotFound, Code: SessionsException.SessionNotFound })
        {
            return null;
        }
    }

    /// <summary>Changes a session's own keys, by a JSON merge patch: keys are set, <see langword="null"/> removes one.</summary>
    /// <param name="sessionId">The session.</param>
    /// <param name="metadata">The keys.</param>
    /// <param name="etag">The <see cref="Session.ETag"/> of the version that is to be changed; whatever it is where this is absent.</param>
    /// <param name="userId">Whose session it must be.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="SessionsException"><c>version_mismatch</c>: it has another version by now.</exception>
    public Task<Session> UpdateMetadataAsync(
        string sessionId, JsonObject metadata, string? etag = null, string? userId = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(metadata);
        EntityTagHeaderValue? version = null;
        if (etag is not null && !EntityTagHeaderValue.TryParse(etag, out version))
        {
            throw new ArgumentException("This is no ETag of a session's.", nameof(etag));
        }

        var request = SessionsTransport.Request(
            HttpMethod.Patch, Path(sessionId, "", userId), new JsonObject { ["metadata"] = metadata.DeepClone() },
            SessionsJson.Default.JsonObject);
        if (version is not null)
        {
            request.Headers.IfMatch.Add(version);
        }

        return SendSessionAsync("update_metadata", sessionId, request, cancellationToken);
    }

    /// <summary>Deletes a session and its history.</summary>
    /// <returns>Whether there was one.</returns>
    public async Task<bool> DeleteSessionAsync(string sessionId, string? userId = null, CancellationToken cancellationToken = default)
    {
        using var activity = Start("delete_session", sessionId);
        try
        {
            using var response = await _transport.SendAsync(SessionsTransport.Request(HttpMethod.Delete, Path(sessionId, "", userId)),
                cancellationToken)
                .ConfigureAwait(false);
            return true;
        }
        catch (SessionsException e) when (e is { Status: HttpStatusCode.NotFound, Code: SessionsException.SessionNotFound })
        {
            return false;
        }
        catch (SessionsException e)
        {
            Fail(activity, e);
            throw;
        }
    }

    /// <summary>Copies a session up to one of its turns. Nothing is run again.</summary>
    /// <remarks>A copy that is to be made once, however often it is tried, needs a <see cref="ForkSessionOptions.SessionId"/>.</remarks>
    public Task<Session> ForkSessionAsync(string sessionId, ForkSessionOptions? options = null, string? userId = null,
        CancellationToken cancellationToken = default) =>
        SendSessionAsync("fork_session", sessionId,
            SessionsTransport.Request(HttpMethod.Post, Path(sessionId, "/fork", userId), options ?? new ForkSessionOptions(),
                SessionsJson.Default.ForkSessionOptions),
            cancellationToken);

    /// <summary>Reads a session's turns.</summary>
    /// <param name="sessionId">The session.</param>
    /// <param name="userId">Whose session it must be.</param>
    /// <param name="includeItems">With <see cref="Turn.Input"/> and <see cref="Turn.Output"/>.</param>
    /// <param name="newestFirst">The last turn first.</param>
    /// <param name="tip">The path that ends with this turn, instead of the newest one.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public async IAsyncEnumerable<Turn> GetHistoryAsync(
        string sessionId, string? userId = null, bool includeItems = false, bool newestFirst = false, int? tip = null,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        for (string? after = null; ;)
        {
            var page = await ReadHistoryAsync(sessionId, userId, includeItems, newestFirst, tip, limit: 100, after, cancellationToken)
                .ConfigureAwait(false);
            foreach (var turn in page.Turns)
            {
                yield return turn;
            }

            if (!page.HasMore || page.Next is null)
            {
                yield break;
            }

            // The first page has told which path it is; one that is longer by now is another.
            tip ??= newestFirst ? page.Turns[0].Number : null;
            after = page.Next;
        }
    }

    /// <summary>Appends a turn that your own agent made.</summary>
    /// <exception cref="SessionsException">
    /// <see cref="SessionsException.TurnConflict"/>: <see cref="NewTurn.ExpectedTurn"/> is not the next one by now.
    /// <see cref="SessionsException.SessionNotFound"/>: the session is another user's.
    /// </exception>
    public Task<Turn> AppendTurnAsync(string sessionId, NewTurn turn, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(turn);
        return SendAsync("append_turn", sessionId,
            SessionsTransport.Request(HttpMethod.Post, Path(sessionId, "/turns"), turn, SessionsJson.Default.NewTurn,
                turn.IdempotencyKey ?? SessionsTransport.NewKey()),
            SessionsJson.Default.Turn, cancellationToken);
    }

    /// <summary>Stops the turn that is running, wherever it runs.</summary>
    /// <returns>Whether one was running.</returns>
    public async Task<bool> CancelTurnAsync(string sessionId, string? userId = null, CancellationToken cancellationToken = default)
    {
        using var activity = Start("cancel_turn", sessionId);
        try
        {
            using var response = await _transport.SendAsync(
                SessionsTransport.Request(HttpMethod.Post, Path(sessionId, "/cancel", userId)), cancellationToken)
                .ConfigureAwait(false);
            return true;
        }
        catch (SessionsException e) when (e.Code is "no_turn_running" or SessionsException.SessionNotFound)
        {
            return false;
        }
        catch (SessionsException e)
        {
            Fail(activity, e);
            throw;
        }
    }

    /// <summary>Asks one of the server's agents.</summary>
    public Task<QueryResult> QueryAsync(QueryOptions query, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(query);
        return SendAsync("query", query.ThreadId,
            SessionsTransport.Request(HttpMethod.Post, "query", query, SessionsJson.Default.QueryOptions,
                query.IdempotencyKey ?? SessionsTransport.NewKey()),
            SessionsJson.Default.QueryResult, cancellationToken);
    }

    /// <summary>Lists a user's sessions.</summary>
    public IAsyncEnumerable<Session> ListSessionsAsync(string userId, SessionFilter? filter = null,
        CancellationToken cancellationToken = default) =>
        ListAsync($"users/{Segment(userId)}/sessions", filter, cancellationToken);

    /// <summary>Lists everybody's sessions. Not everybody may: see the server's documentation.</summary>
    public IAsyncEnumerable<Session> ListAllSessionsAsync(SessionFilter? filter = null, CancellationToken cancellationToken = default) =>
        ListAsync("sessions", filter, cancellationToken);

    /// <summary>Removes everything of a user, for good.</summary>
    public Task<UserErasure> EraseUserAsync(string userId, CancellationToken cancellationToken = default) =>
        SendAsync("erase_user", null, SessionsTransport.Request(HttpMethod.Delete, $"users/{Segment(userId)}/sessions"),
            SessionsJson.Default.UserErasure, cancellationToken);

    /// <summary>Writes everything of a user, as NDJSON: a line for each session, one for each of its turns, and one at the end.</summary>
    /// <exception cref="SessionsException"><see cref="SessionsException.Unreachable"/>: it broke off.</exception>
    public async Task ExportUserAsync(string userId, Stream destination, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(destination);
        using var activity = Start("export_user", null);
        try
        {
            using var response = await _transport.SendAsync(SessionsTransport.Request(HttpMethod.Get, $"users/{Segment(userId)}/export"),
                cancellationToken)
                .ConfigureAwait(false);
            using var source = await response.Content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false);
            var buffer = new byte[CopiedBytes];
            while (await SessionsTransport.ReadAsync(source, buffer, cancellationToken).ConfigureAwait(false) is > 0 and var length)
            {
                // What fails here is the caller's: a disk that is full is no server that broke off.
                await destination.WriteAsync(buffer.AsMemory(0, length), cancellationToken).ConfigureAwait(false);
            }
        }
        catch (SessionsException e)
        {
            Fail(activity, e);
            throw;
        }
    }

    /// <summary>Counts the sessions there are.</summary>
    public Task<SessionStatistics> GetStatisticsAsync(CancellationToken cancellationToken = default) =>
        SendAsync("get_statistics", null, SessionsTransport.Request(HttpMethod.Get, "sessions/stats"),
            SessionsJson.Default.SessionStatistics, cancellationToken);

    /// <summary>Removes what has expired, now.</summary>
    public Task<CleanupResult> CleanUpAsync(CancellationToken cancellationToken = default) =>
        SendAsync("clean_up", null, SessionsTransport.Request(HttpMethod.Post, "sessions/cleanup"), SessionsJson.Default.CleanupResult,
            cancellationToken);

    internal Task<TurnPage> ReadHistoryAsync(
        string sessionId, string? userId, bool includeItems, bool newestFirst, int? tip, int limit, string? after,
        CancellationToken cancellationToken)
    {
        var query = new StringBuilder().Append(CultureInfo.InvariantCulture,
            $"/history?limit={limit}&order={(newestFirst ? "desc" : "asc")}");
        Add(query, "include", includeItems ? "items" : null);
        Add(query, "tip", tip?.ToString(CultureInfo.InvariantCulture));
        Add(query, "after", after);
        Add(query, "user_id", userId);
        return SendAsync("get_history", sessionId, SessionsTransport.Request(HttpMethod.Get, Path(sessionId, query.ToString())),
            SessionsJson.Default.TurnPage, cancellationToken);
    }

    internal static Activity? Start(string operation, string? sessionId)
    {
        var activity = SessionsTelemetry.Source.StartActivity($"sessions.{operation}", ActivityKind.Client);
        activity?.SetTag("sessions.session_id", sessionId);
        return activity;
    }

    internal static void Fail(Activity? activity, SessionsException e)
    {
        activity?.SetStatus(ActivityStatusCode.Error, e.Message);
        activity?.SetTag("error.type", e.Code);
    }

    private async IAsyncEnumerable<Session> ListAsync(string path, SessionFilter? filter,
        [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        filter ??= new SessionFilter();
        var query = new StringBuilder(path).Append(CultureInfo.InvariantCulture,
            $"?limit=100&order={(filter.OldestFirst ? "asc" : "desc")}");
        Add(query, "created_after", Time(filter.CreatedAfter));
        Add(query, "created_before", Time(filter.CreatedBefore));
        Add(query, "active_after", Time(filter.ActiveAfter));
        Add(query, "active_before", Time(filter.ActiveBefore));
        Add(query, "created_from", filter.CreatedFrom);
        foreach (var (key, value) in filter.Metadata ?? new Dictionary<string, string>())
        {
            Add(query, $"metadata.{Uri.EscapeDataString(key)}", value);
        }

        var first = query.ToString();
        for (var next = first; ;)
        {
            var page = await SendAsync("list_sessions", null, SessionsTransport.Request(HttpMethod.Get, next),
                SessionsJson.Default.SessionPage, cancellationToken)
                .ConfigureAwait(false);
            foreach (var session in page.Sessions)
            {
                yield return session;
            }

            if (!page.HasMore || page.Next is null)
            {
                yield break;
            }

            next = $"{first}&after={Uri.EscapeDataString(page.Next)}";
        }
    }

    private async Task<Session> SendSessionAsync(string operation, string? sessionId, HttpRequestMessage request,
        CancellationToken cancellationToken)
    {
        using var activity = Start(operation, sessionId);
        try
        {
            using var response = await _transport.SendAsync(request, cancellationToken).ConfigureAwait(false);
            var session = await SessionsTransport.ReadAsync(response, SessionsJson.Default.Session, cancellationToken)
                .ConfigureAwait(false);
            activity?.SetTag("sessions.session_id", session.SessionId);
            return session with { ETag = response.Headers.ETag?.ToString() };
        }
        catch (SessionsException e)
        {
            Fail(activity, e);
            throw;
        }
    }

    private async Task<T> SendAsync<T>(
        string operation, string? sessionId, HttpRequestMessage request, JsonTypeInfo<T> type, CancellationToken cancellationToken)
    {
        using var activity = Start(operation, sessionId);
        try
        {
            return await _transport.SendAsync(request, type, cancellationToken).ConfigureAwait(false);
        }
        catch (SessionsException e)
        {
            Fail(activity, e);
            throw;
        }
    }

    private static string Path(string sessionId, string rest, string? userId = null)
    {
        var path = $"sessions/{Segment(sessionId)}{rest}";
        return userId is null ? path : $"{path}?user_id={Uri.EscapeDataString(userId)}";
    }

    // Dots alone would lead to another address, also when they are escaped.
    private static string Segment(string id, [CallerArgumentExpression(nameof(id))] string? name = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(id, name);
        return id is "." or ".." ? throw new ArgumentException("Dots alone can't be in an address.", name) : Uri.EscapeDataString(id);
    }

    private static void Add(StringBuilder query, string name, string? value)
    {
        if (value is not null)
        {
            query.Append('&').Append(name).Append('=').Append(Uri.EscapeDataString(value));
        }
    }

    private static string? Time(DateTimeOffset? time) =>
        time?.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.FFFFFFF'Z'", CultureInfo.InvariantCulture);
}
