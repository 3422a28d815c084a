using System.Collections.Concurrent;
using System.Text.Json;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Engine.Streams;

namespace Sessions.Api.Http.OpenAi;

/// <summary>
/// Requests that OpenAI's clients repeat by themselves (<c>X-Stainless-Retry-Count</c>), without a key that would tell so: the same
/// caller, conversation or chain, and body within a minute is answered with the turn that the first one made. In this process alone; a
/// repeat that comes to another replica is a request of its own, which an <c>Idempotency-Key</c> prevents.
/// </summary>
internal sealed class RepeatedRequests(TurnRunner turns, StreamedTurns streams, SessionLog log, TimeProvider time)
{
    private const string Header = "X-Stainless-Retry-Count";
    private const int MaxKept = 10_000;

    private static readonly TimeSpan Kept = TimeSpan.FromMinutes(1);

    private readonly Lock _lock = new();
    private readonly Dictionary<Guid, Entry> _byRequest = [];
    private readonly Queue<(Guid Request, Entry Entry)> _inOrder = new();
    private readonly ConcurrentDictionary<(Idempotency Key, SessionRef? Session), Task<TurnResult>> _unstored = new();

    /// <summary>Runs the turn of a request, or gives the one that the same request made before.</summary>
    /// <param name="http">The request.</param>
    /// <param name="scope">Its caller.</param>
    /// <param name="body">Its body.</param>
    /// <param name="command">What it asks for.</param>
    /// <param name="cancellationToken">Its client has gone.</param>
    public Task<TurnResult> RunAsync(
        HttpContext http, string? scope, JsonElement body, TurnCommand command, CancellationToken cancellationToken) =>
        command switch
        {
            { Store: false, Idempotency: { } key } => RunWhileAsync(key, command, cancellationToken),
            { Store: true, Idempotency: null } => OnceAsync(
                http, scope, body, command.Owner, isResponse: command.Response is not null && command.KeepsResponse,
                () => turns.RunAsync(command, observer: null, cancellationToken), cancellationToken),
            _ => turns.RunAsync(command, observer: null, cancellationToken),
        };

    /// <summary>Appends the items of a request, or gives the turn that the same request appended before.</summary>
    /// <inheritdoc cref="RunAsync" path="/param"/>
    public Task<TurnResult> AppendAsync(
        HttpContext http, string? scope, JsonElement body, AppendCommand command, CancellationToken cancellationToken) =>
        command.Idempotency is null
            ? OnceAsync(
                http, scope, body, command.Owner, isResponse: false, () => turns.AppendAsync(command, cancellationToken), cancellationToken)
            : turns.AppendAsync(command, cancellationToken);

    /// <summary>Starts the turn of a request, or finds the stream of the same request before.</summary>
    /// <inheritdoc cref="RunAsync" path="/param"/>
    public async ValueTask<StreamedTurn> StreamAsync(
        HttpContext http, string? scope, JsonElement body, TurnCommand command, CancellationToken cancellationToken)
    {
        // Those that have a key, or leave nothing behind, are told apart where they are started.
        if (!command.Store || command.Idempotency is not null)
        {
            return await streams.StartAsync(command, cancellationToken);
        }

        var request = NameOf(http, scope, body);
        if (IsRepeat(http.Request) && Find(request) is { Stream: { } id }
            && await streams.FindAsync(id, command.Owner, cancellationToken) is { Refusal: null } before
            && (!before.Ended || before.Result is not null))
        {
            return before;
        }

        var started = await streams.StartAsync(command, cancellationToken);
        Add(request, new Entry { Stream = started.Id, EndedAt = time.GetTimestamp() });
        return started;
    }

    private static bool IsRepeat(HttpRequest request) => request.Headers[Header] is [{ Length: > 0 } count] && count != "0";

    // Callers that have no name are told apart by where they are.
    private static Guid NameOf(HttpContext http, string? scope, JsonElement body) =>
        RequestKeys.Hash(http.Request.Path.Value, http.Request.QueryString.Value, scope, http.Connection.RemoteIpAddress?.ToString(), body);

    private async Task<TurnResult> OnceAsync(
        HttpContext http, string? scope, JsonElement body, Owner owner, bool isResponse, Func<Task<TurnResult>> makeAsync,
        CancellationToken cancellationToken)
    {
        var request = NameOf(http, scope, body);
        var entry = new Entry { Made = new TaskCompletionSource<ResponseId?>(TaskCreationOptions.RunContinuationsAsynchronously) };
        while (AddUnlessMade(request, entry, IsRepeat(http.Request)) is { } before)
        {
            // What a repeat is answered with stands in the log, as it is there by now. Where the one before came to nothing after all, this
            // one is the first.
            if (await before.Made!.Task.WaitAsync(cancellationToken) is { } id)
            {
                if (await log.FindTurnAsync(id.Key, id.Nonce, owner, cancellationToken) is { } found
                    && !(isResponse && found.Turn.Response.IsEmpty))
                {
                    return new TurnResult(found.Session.Id, id.Key, found.Session.UserId, found.Turn, Replayed: true);
                }

                Remove(request, before);
            }
        }

        try
        {
            var made = await makeAsync();
            entry.EndedAt = time.GetTimestamp();
            entry.Made.SetResult(new ResponseId(made.SessionKey, made.Turn.Nonce));
            return made;
        }
        catch
        {
            Remove(request, entry);
            entry.Made.SetResult(null);
            throw;
        }
    }

    // Where nothing is stored a key holds while the request runs: the same request waits for its answer. Any other with that key is
    // refused where it would run.
    private async Task<TurnResult> RunWhileAsync(Idempotency key, TurnCommand command, CancellationToken cancellationToken)
    {
        var source = new TaskCompletionSource<TurnResult>(TaskCreationOptions.RunContinuationsAsynchronously);
        var request = (key, command.Session);
        var running = _unstored.GetOrAdd(request, source.Task);
        if (running != source.Task)
        {
            return await running.WaitAsync(cancellationToken) with { Replayed = true };
        }

        try
        {
            var made = await turns.RunAsync(command, observer: null, cancellationToken);
            source.SetResult(made);
            return made;
        }
        catch (Exception e)
        {
            source.SetException(e is OperationCanceledException ? new DomainException(Error.IdempotencyInProgress("")) : e);
            _ = source.Task.Exception;
            throw;
        }
        finally
        {
            _unstored.TryRemove(request, out _);
        }
    }

    private Entry? Find(Guid request)
    {
        lock (_lock)
        {
            return _byRequest.TryGetValue(request, out var entry) && !IsOld(entry) ? entry : null;
        }
    }

    // In one step: of several repeats at once one is the first.
    private Entry? AddUnlessMade(Guid request, Entry entry, bool isRepeat)
    {
        lock (_lock)
        {
            if (isRepeat && Find(request) is { Made: not null } before)
            {
                return before;
            }

            Add(request, entry);
            return null;
        }
    }

    private void Add(Guid request, Entry entry)
    {
        lock (_lock)
        {
            while (_inOrder.TryPeek(out var oldest) && (_inOrder.Count >= MaxKept || IsOld(oldest.Entry)))
            {
                _inOrder.Dequeue();
                Remove(oldest.Request, oldest.Entry);
            }

            _byRequest[request] = entry;
            _inOrder.Enqueue((request, entry));
        }
    }

    private void Remove(Guid request, Entry entry)
    {
        lock (_lock)
        {
            if (_byRequest.TryGetValue(request, out var known) && known == entry)
            {
                _byRequest.Remove(request);
            }
        }
    }

    private bool IsOld(Entry entry) => entry.EndedAt is { } ended && time.GetElapsedTime(ended) > Kept;

    private sealed class Entry
    {
        /// <summary>The turn that comes of it, where it is not streamed; of none <see langword="null"/>.</summary>
        public TaskCompletionSource<ResponseId?>? Made { get; init; }

        /// <summary>The stream that tells it, by its id: what was told is kept elsewhere, and bounded there.</summary>
        public Guid? Stream { get; init; }

        public long? EndedAt { get; set; }
    }
}
