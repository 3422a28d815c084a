using System.Collections.Concurrent;
using System.Diagnostics;
using Sessions.Api.Domain;
using Sessions.Api.Engine.Agents;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <summary>Runs turns: waits for the session, reads what was said before, asks the agent, commits. Turns that clients made are appended
/// in the same way, without the agent.</summary>
internal sealed partial class TurnRunner(
    SessionLog log, TurnGate gate, RunningTurns running, FinalFailures failures, LimitSettings limits, TimeProvider time,
    TurnMetrics metrics, TelemetrySettings telemetry, Stopping stopping, ILogger<TurnRunner> logger)
{
    // How often a turn is run again because another process was faster on the same session.
    private const int MaxAttempts = 3;

    // How long committing may take beside the agent, and a margin for clocks that differ.
    private static readonly TimeSpan CommitMargin = TimeSpan.FromSeconds(30);

    // The keys of the requests that run and leave nothing behind, and their bodies: the log knows nothing of them.
    private readonly ConcurrentDictionary<Guid, Guid> _unstored = new();

    /// <summary>Runs one turn.</summary>
    /// <param name="command">What is asked.</param>
    /// <param name="observer">Told what happens as it happens, if anybody wants to know; not of the end, which is the result.</param>
    /// <param name="cancellationToken">The client's: when it goes away, nothing is committed.</param>
    /// <exception cref="DomainException">The turn did not come about; the error says why.</exception>
    public Task<TurnResult> RunAsync(TurnCommand command, ITurnObserver? observer, CancellationToken cancellationToken) =>
        command.Idempotency is { } key && (!command.Store || IsHeldByAnother(key))
            ? HoldingAsync(key, command, observer, cancellationToken)
            : UntilStopAsync(token => RunToEndAsync(command, observer, token), cancellationToken);

    /// <summary>Appends a turn that a client's own agent made.</summary>
    /// <exception cref="DomainException">It was not appended; the error says why.</exception>
    public Task<TurnResult> AppendAsync(AppendCommand command, CancellationToken cancellationToken) =>
        UntilStopAsync(token => AppendToEndAsync(command, token), cancellationToken);

    /// <summary>Stops the turn that runs on a session, on whichever replica: what was told so far is kept.</summary>
    /// <exception cref="DomainException"><c>session_not_found</c>, <c>no_turn_running</c>.</exception>
    public async ValueTask StopAsync(SessionRef session, Owner owner, CancellationToken cancellationToken)
    {
        // A session whose first turn runs is not there yet: then its id alone leads to the turn, as it would to the session. By that id
        // others may begin a session of their own at the same time; once it is there, all its turns are its owner's.
        var head = await log.GetAsync(session, owner, cancellationToken);
        var id = head?.Id ?? session.Id;
        var stoppedHere = id is not null && running.Stop(id, head is null ? owner : Owner.Anyone);
        if (!stoppedHere && !await log.CancelAsync(session, owner, cancellationToken))
        {
            throw new DomainException(head is null
                ? Error.SessionNotFound(session.ToString())
                : new Error("no_turn_running", "No turn runs on this session.") { SessionId = id });
        }
    }

    private bool IsHeldByAnother(Idempotency key) => _unstored.TryGetValue(key.Key, out var body) && body != key.Body;

    // Held from before anything is waited for until before anybody is told of the end.
    private async Task<TurnResult> HoldingAsync(
        Idempotency key, TurnCommand command, ITurnObserver? observer, CancellationToken cancellationToken)
    {
        while (!_unstored.TryAdd(key.Key, key.Body))
        {
            if (_unstored.TryGetValue(key.Key, out var body))
            {
                throw new DomainException(body == key.Body ? Error.IdempotencyInProgress("") : Error.IdempotencyKeyReused);
            }
        }

        try
        {
            return await UntilStopAsync(token => RunToEndAsync(command, observer, token), cancellationToken);
        }
        finally
        {
            _unstored.TryRemove(key.Key, out _);
        }
    }

    // What gives nothing is run once more.
    private async Task<TurnResult> UntilStopAsync(Func<CancellationToken, ValueTask<TurnResult?>> run, CancellationToken cancellationToken)
    {
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, stopping.TimeIsUp);
        try
        {
            TurnResult? result;
            do
            {
                result = await run(ended.Token);
            }
            while (result is null);
            return result;
        }
        catch (OperationCanceledException) when (stopping.TimeIsUp.IsCancellationRequested && !cancellationToken.IsCancellationRequested)
        {
            throw new DomainException(Stopping.Refusal);
        }
    }

    // Null: the session that the request's key led to is not its own any more, and it is a new request then.
    private async ValueTask<TurnResult?> RunToEndAsync(TurnCommand command, ITurnObserver? observer, CancellationToken cancellationToken)
    {
        var name =
            await NameAsync(command.Session, command.Owner, command.Store ? command.Idempotency : null, cancellationToken);
        var sessionId = name.Id;
        using var activity = TurnMetrics.Source.StartActivity("turn");
        activity?.SetTag("gen_ai.conversation.id", sessionId).SetTag("sessions.agent_type", command.Agent.Type);

        if (command.Store)
        {
            RefuseCallBack(command.CalledFrom, sessionId);
        }

        using var ticket = await EnterAsync(sessionId, command.Kind, command.Owner, command.Idempotency, command.OnBusy, cancellationToken);
        using var entry = running.Add(sessionId, command.Owner);

        // What is yet to be copied makes room for nobody, as little as if the turn were its own.
        using var source = command.BranchOf is { } origin ? running.Add(origin.Id, command.Owner, isSource: true) : null;
        var history = command.History ?? command.Agent.HistoryFor(command.Options);
        var lifetime = command.Agent.Timeout + CommitMargin;
        await using var held = await HoldAsync(sessionId, command, lifetime, cancellationToken);
        var request = new BeginRequest
        {
            Session = SessionRef.ById(sessionId),
            Owner = command.Owner,
            Kind = command.Kind,
            MustExist = command.MustExist,

            // Whether a call waits for its output stands in the last turn, also where the agent is not told of that.
            HistoryTurns = Math.Max(1, history.Turns),
            HistoryBytes = history.Bytes,
            AfterTurn = command.AfterTurn,
            BranchOf = command.BranchOf?.Key,
            Idempotency = command.Idempotency,
            ReservedBy = name.ReservedBy ?? (command.BranchOf is null ? null : command.Idempotency?.Key),
            // The server's own chains are known by their responses alone, whose ids tell the key.
            NewKey = command.Kind == SessionKind.Chain ? null : name.NewKey,
            Wait = WaitFor(command.OnBusy),
            MinLifetime = lifetime,
            ReadsOnly = !command.Store,
        };
        // A client that goes away stops its turn, unless tools have run: what they did can't be taken back, so the turn is finished and
        // kept, and a retry finds it.
        using var finishing = command is { Store: true, Agent.ToolServers.Count: > 0 }
            ? CancellationTokenSource.CreateLinkedTokenSource(stopping.TimeIsUp)
            : null;
        using var gone = finishing is null ? default : cancellationToken.UnsafeRegister(
            _ =>
            {
                if (!entry.ToolsRan)
                {
                    finishing.Cancel();
                }
            },
            null);
        var ended = finishing?.Token ?? cancellationToken;
        var began = time.GetTimestamp();
        string? outcome = "cancelled";
        try
        {
            // What has been told can't be taken back: a turn that is told as it runs is not run again. What tools have done can't either.
            for (var attempt = 1; attempt <= (observer is null && !entry.ToolsRan ? MaxAttempts : 1); attempt++)
            {
                var (result, isNameLost) = await TryRunAsync(name, command, request, history, observer, entry, ended);
                if (isNameLost)
                {
                    outcome = null;
                    return null;
                }

                if (result is not null)
                {
                    activity?.SetTag("sessions.turn", result.Turn.Number);
                    outcome = result.Replayed ? "replayed" : result.Turn.Status == TurnStatus.Incomplete ? "incomplete" : "committed";
                    return result;
                }

                Log.Stale(logger, sessionId, attempt);
            }

            outcome = "refused";
            throw new DomainException(Error.SessionBusy(sessionId));
        }
        catch (AgentException e)
        {
            outcome = "failed";
            Log.AgentFailed(logger, command.Agent.Type, sessionId, e.Message, telemetry.IncludeContent ? e.InnerException : null);
            activity?.SetStatus(ActivityStatusCode.Error, e.Message);
            throw new DomainException(Final(e.Error with { SessionId = sessionId }, entry, command, sessionId));
        }
        catch (DomainException e)
        {
            outcome = "refused";
            if (entry.ToolsRan)
            {
                throw new DomainException(Final(e.Error, entry, command, sessionId));
            }

            throw;
        }
        catch (Exception e) when (e is StoreUnavailableException or StoredDataException)
        {
            outcome = "unavailable";
            if (!entry.ToolsRan)
            {
                throw;
            }

            throw new DomainException(Final(Failures.ErrorOf(e, logger)!, entry, command, sessionId));
        }
        catch (OperationCanceledException) when (entry.ToolsRan && stopping.TimeIsUp.IsCancellationRequested)
        {
            throw new DomainException(Final(Stopping.Refusal, entry, command, sessionId));
        }
        finally
        {
            if (outcome is not null)
            {
                metrics.Ended(command.Agent.Type, outcome, time.GetElapsedTime(began));
            }
        }
    }

    // Once a tool has run, neither this server nor a client is to run the turn again by itself.
    private Error Final(Error error, RunningTurns.Entry entry, TurnCommand command, string sessionId)
    {
        if (!entry.ToolsRan)
        {
            return error;
        }

        var final = error with { MayRetry = false, RetryAfter = null };
        if (command.Idempotency is { } key)
        {
            failures.Remember(sessionId, command.Owner, key, final);
        }

        return final;
    }

    private async ValueTask<Attempt> TryRunAsync(
        SessionName name, TurnCommand command, BeginRequest request, HistoryBounds bounds, ITurnObserver? observer,
        RunningTurns.Entry entry, CancellationToken cancellationToken)
    {
        BegunTurn opened;
        try
        {
            entry.HasBegun = false;
            opened = await log.BeginAsync(request, cancellationToken);
        }
        catch (DomainException) when (name.ReservedBy is not null)
        {
            if (await IsLostAsync(name, command, cancellationToken))
            {
                return Attempt.NameLost;
            }

            throw;
        }

        await using var begun = opened;
        if (begun.Replay is { } replay)
        {
            // What was deleted since is not given again.
            return command.Response is null || !command.KeepsResponse || !replay.Response.IsEmpty
                ? new(new TurnResult(begun.SessionId, begun.SessionKey, begun.Session!.UserId, replay, Replayed: true))
                : throw new DomainException(Error.ResponseNotFound(new ResponseId(begun.SessionKey, replay.Nonce)));
        }

        entry.HasBegun = true;
        if (await IsLostAsync(name, command, cancellationToken))
        {
            return Attempt.NameLost;
        }

        if (command.Idempotency is { } key && failures.Find(begun.SessionId, command.Owner, key) is { } failure)
        {
            throw new DomainException(failure);
        }

        if (begun.IsCut && !bounds.MayCut)
        {
            var rule = $"the turns before it must have at most {request.HistoryBytes} bytes as they are kept, with what those made under "
                + "/v1 keep of their responses, such as instructions and tools; the operator can raise that";
            throw new DomainException(Error.LimitExceeded("input", rule, "limits.history_bytes") with
            {
                Code = "context_length_exceeded",
                SessionId = begun.SessionId,
            });
        }

        var needed = await log.FindCallsAsync(begun, command.Input, Items.None, cancellationToken);
        ToolCalls.Require(begun.History, needed, command.Input, begun.SessionId);
        var history = bounds.Turns == 0 ? [] : begun.History;
        DateTimeOffset startedAt;
        AgentAnswer? answer;
        try
        {
            // Before anything is told: what refuses the turn then has a status of its own.
            await command.Agent.PrepareAsync(command.Options, cancellationToken);
            if (observer is not null)
            {
                command.Agent.CheckHistory(history, needed, bounds.MayCut);
            }

            startedAt = time.GetUtcNowMicroseconds();
            observer?.On(new TurnBegun(
                begun.SessionId, begun.SessionKey, begun.Nonce, begun.ExpectedNumber, begun.Session is null, startedAt));
            observer?.Flush();
            answer = await AnswerAsync(command, begun, history, needed, observer, entry, cancellationToken);
        }
        catch (AgentException e)
        {
            // The client may have gone by now: the failure is recorded all the same. A chain that never began has nothing to record it on.
            if (command.Store && !begun.IsBranch && (begun.Session is not null || request.Kind != SessionKind.Chain))
            {
                await log.FailAsync(begun, e.Message, CancellationToken.None);
            }

            throw;
        }

        if (answer is null)
        {
            return Attempt.Stale;
        }

        if (answer.Output.IsNone && answer.IncompleteReason == "cancelled")
        {
            throw new DomainException(
                new Error("turn_cancelled", "The turn was stopped before anything was said; nothing of it was kept.")
                {
                    SessionId = begun.SessionId,
                    MayRetry = false,
                });
        }

        cancellationToken.ThrowIfCancellationRequested();
        var response = command.Response?.Make(new RunOutcome(answer, null, startedAt, time.GetUtcNowMicroseconds())) ?? default;
        var turn = TurnOf(command, begun, answer, response);
        if (!command.Store)
        {
            return new(new TurnResult(begun.SessionId, begun.SessionKey, begun.Session?.UserId, turn, Replayed: false));
        }

        // From here on the turn is made: a client that goes away now finds it in the history.
        var kept = command.KeepsResponse ? turn : turn with { Response = default };
        var commit = log.CommitAsync(begun, kept, answer.Summary, CancellationToken.None);
        if (!commit.IsCompleted)
        {
            observer?.Flush();
        }

        if (await commit is not { } committed)
        {
            return Attempt.Stale;
        }

        var told = command.KeepsResponse ? committed : committed with { Response = response };
        return new(new TurnResult(begun.SessionId, begun.SessionKey, begun.Session?.UserId ?? request.Owner.UserId, told, Replayed: false));
    }

    // Null: another process has the session by now, as this one was paused for longer than its lease lasts.
    private async ValueTask<AgentAnswer?> AnswerAsync(
        TurnCommand command, BegunTurn begun, IReadOnlyList<Turn> history, IReadOnlyList<Turn> needed, ITurnObserver? observer,
        RunningTurns.Entry entry, CancellationToken cancellationToken)
    {
        var request = new AgentRequest
        {
            SessionId = begun.SessionId,
            UserId = begun.Session?.UserId ?? begun.Request.Owner.UserId,
            Turn = begun.ExpectedNumber,
            Summary = SummaryOf(begun, history),
            History = history,
            Needed = needed,
            MayCut = command.History?.MayCut ?? true,
            Input = command.Input,
            Options = command.Options,
            OnToolCall = command.Agent.ToolServers.Count > 0 ? entry.ToolRuns : null,
        };
        if (command.Agent.AnswersAtOnce(isStreamed: observer is not null))
        {
            // Before anybody could ask it to stop, or take its session away.
            return await command.Agent.AnswerAsync(request, observer, CancellationToken.None, cancellationToken);
        }

        // On a store that other processes share, they may ask the turn to stop, or take its session away.
        using var asked = begun.Cancelled.UnsafeRegister(static entry => ((RunningTurns.Entry)entry!).Stop(), entry);
        using var lost = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, begun.Lost);
        try
        {
            return await command.Agent.AnswerAsync(request, observer, entry.Stopped, lost.Token);
        }
        catch (OperationCanceledException) when (begun.Lost.IsCancellationRequested && !cancellationToken.IsCancellationRequested)
        {
            // Where there was no session, one that is there by now may have come after a deletion.
            return begun is { IsDropped: false, Session: not null }
                && await log.GetAsync(SessionRef.ByKey(begun.SourceKey), begun.Request.Owner, cancellationToken) is not null
                    ? null : throw new DomainException(Error.SessionGone(begun.SessionId));
        }
    }

    private Turn TurnOf(TurnCommand command, BegunTurn begun, AgentAnswer answer, ReadOnlyMemory<byte> response) => new()
    {
        // The log gives it its place.
        Number = begun.ExpectedNumber,
        Parent = 0,
        RunStart = 0,
        Nonce = begun.Nonce,
        Status = answer.IncompleteReason is null ? TurnStatus.Completed : TurnStatus.Incomplete,
        IncompleteReason = answer.IncompleteReason,
        Input = command.Input,
        Output = answer.Output,
        AgentType = command.Agent.Type,
        AgentUsed = answer.AgentUsed,
        Model = answer.Model,
        FinishReason = answer.FinishReason,
        CreatedAt = Later(time.GetUtcNowMicroseconds(), begun.Session?.CreatedAt),
        ExecutionTime = answer.ExecutionTime,
        Usage = answer.Usage,
        HistoryTokens = answer.HistoryTokens,
        StartedSession = begun.Session is null,
        Response = response,
    };

    /// <summary>
    /// The session's summary, where it belongs in front of this history: only where the last turn it covers is known to lie on this path,
    /// in the unbroken run that the first turn of the history stands in.
    /// </summary>
    internal static Summary? SummaryOf(BegunTurn begun, IReadOnlyList<Turn> history)
    {
        if (begun.Session is not { Summary: { } summary } session)
        {
            return null;
        }

        var first = history.Count > 0 ? history[0] : begun.Request.AfterTurn is null ? session.LastTurn : null;
        return first is not null && summary.CoversTurns >= first.RunStart
            && summary.CoversTurns <= (begun.Request.AfterTurn ?? session.TurnCount) ? summary : null;
    }

    private async ValueTask<TurnResult?> AppendToEndAsync(AppendCommand command, CancellationToken cancellationToken)
    {
        var sessionId = (await NameAsync(command.Session, command.Owner, idempotency: null, cancellationToken)).Id;
        RefuseCallBack(command.CalledFrom, sessionId);
        using var ticket = await EnterAsync(
            sessionId, SessionKind.Session, command.Owner, command.Idempotency, command.OnBusy, cancellationToken);
        using var entry = running.Add(sessionId, command.Owner);
        var request = new BeginRequest
        {
            Session = SessionRef.ById(sessionId),
            Owner = command.Owner,
            MustExist = command.MustExist,

            // To find the calls whose outputs are appended.
            HistoryTurns = ToolCalls.HasOutputs(command.Input) || ToolCalls.HasOutputs(command.Output) ? int.MaxValue : 0,
            HistoryBytes = limits.HistoryBytes,
            Idempotency = command.Idempotency,
            Wait = WaitFor(command.OnBusy),
            MinLifetime = CommitMargin,
        };
        for (var attempt = 1; attempt <= MaxAttempts; attempt++)
        {
            entry.HasBegun = false;
            await using var begun = await log.BeginAsync(request, cancellationToken);
            if (begun.Replay is { } replay)
            {
                return new TurnResult(begun.SessionId, begun.SessionKey, begun.Session!.UserId, replay, Replayed: true);
            }

            entry.HasBegun = true;
            if (command.ExpectedTurn is { } expected && expected != begun.ExpectedNumber)
            {
                var message = $"expected_turn: the next turn of this session is {begun.ExpectedNumber}, not {expected}.";
                throw new DomainException(new Error("turn_conflict", message)
                {
                    Field = "expected_turn",
                    Rule = $"must be {begun.ExpectedNumber}, the number of the next turn",
                    SessionId = begun.SessionId,
                });
            }

            var needed = await log.FindCallsAsync(begun, command.Input, command.Output, cancellationToken);
            ToolCalls.RequireCalls(begun.History, needed, command.Input, command.Output);
            cancellationToken.ThrowIfCancellationRequested();
            var turn = new Turn
            {
                Number = begun.ExpectedNumber,
                Parent = 0,
                RunStart = 0,
                Nonce = begun.Nonce,
                Status = TurnStatus.Appended,
                Input = command.Input,
                Output = command.Output,
                AgentType = command.AgentType,
                AgentUsed = command.AgentType,
                CreatedAt = Later(time.GetUtcNowMicroseconds(), begun.Session?.CreatedAt),
                StartedSession = begun.Session is null,
            };
            // A client that goes away now finds it in the history: it is not to be told that nothing came of it, and to repeat it.
            if (await log.CommitAsync(begun, turn, summary: null, CancellationToken.None) is { } committed)
            {
                return new TurnResult(
                    begun.SessionId, begun.SessionKey, begun.Session?.UserId ?? request.Owner.UserId, committed, Replayed: false);
            }

            Log.Stale(logger, sessionId, attempt);
        }

        throw new DomainException(Error.SessionBusy(sessionId));
    }

    // A session without a name gets one that is new, with its key, or the one that the same request got before.
    private async ValueTask<SessionName> NameAsync(
        SessionRef? session, Owner owner, Idempotency? idempotency, CancellationToken cancellationToken)
    {
        if (session is { } named)
        {
            return named.Id is { } id ? new(id)
                : await log.GetAsync(named, owner, cancellationToken) is { } found ? new(found.Id)
                : throw new DomainException(Error.SessionNotFound(named.ToString()));
        }

        var (newId, newKey) = SessionKey.NewWithId(time);
        if (idempotency is not { } key)
        {
            return new(newId) { NewKey = newKey };
        }

        var reservation = await log.ReserveAsync(key, owner, newId, cancellationToken);
        return reservation.SameBody
            ? new(reservation.SessionId) { NewKey = newKey, ReservedBy = key.Key }
            : throw new DomainException(Error.IdempotencyKeyReused);
    }

    // The session that a key led to may have been deleted before it was opened, and the key with it: then its id leads nowhere any more,
    // or to what somebody else has made since. That goes for the request that tied the key as well: a repeat may have been answered
    // before it came to open anything. Asked again, the key is tied to a session that is yet to be.
    private async ValueTask<bool> IsLostAsync(SessionName name, TurnCommand command, CancellationToken cancellationToken)
    {
        if (name.ReservedBy is null)
        {
            return false;
        }

        var (newId, _) = SessionKey.NewWithId(time);
        var reservation = await log.ReserveAsync(command.Idempotency!.Value, command.Owner, newId, cancellationToken);
        return reservation.SessionId != name.Id;
    }

    // It would wait for the turn that waits for it.
    private void RefuseCallBack(string? calledFrom, string sessionId)
    {
        if (calledFrom == sessionId && running.IsRunning(sessionId))
        {
            throw new DomainException(Error.SessionBusy(sessionId));
        }
    }

    // The branches of a chain grow side by side; but a request with a key waits for none but itself.
    private async ValueTask<TurnGate.Ticket> EnterAsync(
        string sessionId, SessionKind kind, Owner owner, Idempotency? idempotency, OnBusy? onBusy, CancellationToken cancellationToken)
    {
        var arrived = time.GetTimestamp();
        var name = kind != SessionKind.Chain ? sessionId : idempotency is { } key ? NameOf(sessionId, key) : null;
        var ticket = name is null ? default
            : await gate.EnterAsync(name, owner, idempotency, onBusy ?? limits.OnBusy, cancellationToken);
        metrics.Waited(time.GetElapsedTime(arrived));
        return ticket;
    }

    // The same on other replicas, where the session's lease does not do it.
    private ValueTask<IAsyncDisposable?> HoldAsync(
        string sessionId, TurnCommand command, TimeSpan lifetime, CancellationToken cancellationToken)
    {
        var name = command.Idempotency is not { } key ? null
            : !command.Store ? NameOf("", key)
            : command.Kind == SessionKind.Chain ? NameOf(sessionId, key) : null;
        return name is null ? default : log.HoldRequestAsync(name, command.Owner, WaitFor(command.OnBusy), lifetime, cancellationToken);
    }

    // No id of a session has a slash.
    private static string NameOf(string sessionId, Idempotency key) => $"{sessionId}/{key.Key:N}";

    // Another replica's clock may be ahead: no turn is older than its session.
    private static DateTimeOffset Later(DateTimeOffset now, DateTimeOffset? created) => created > now ? created.Value : now;

    private TimeSpan WaitFor(OnBusy? onBusy) =>
        (onBusy ?? limits.OnBusy) == OnBusy.Reject ? TimeSpan.Zero : TimeSpan.FromSeconds(limits.TurnWaitSeconds);

    /// <summary>The session that a turn is to be on.</summary>
    /// <param name="Id">Its id.</param>
    private readonly record struct SessionName(string Id)
    {
        /// <summary>The key of the session that the turn creates, where one was drawn with its id.</summary>
        public Guid? NewKey { get; init; }

        /// <summary>The idempotency key that led to it, if one did.</summary>
        public Guid? ReservedBy { get; init; }
    }

    /// <summary>What came of running a turn once.</summary>
    /// <param name="Result">The turn, if it came about.</param>
    /// <param name="IsNameLost">Whether the session's name is not the request's any more.</param>
    private readonly record struct Attempt(TurnResult? Result, bool IsNameLost = false)
    {
        /// <summary>The session has moved on meanwhile, and the agent has answered from what is no longer the latest.</summary>
        public static Attempt Stale => default;

        public static Attempt NameLost => new(null, IsNameLost: true);
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 10, Level = LogLevel.Warning, Message = "Agent {AgentType} failed in session {SessionId}: {Reason}")]
        public static partial void AgentFailed(ILogger logger, string agentType, string sessionId, string reason, Exception? exception);

        [LoggerMessage(EventId = 11, Level = LogLevel.Information,
            Message = "Session {SessionId} moved on during a turn; running it again ({Attempt})")]
        public static partial void Stale(ILogger logger, string sessionId, int attempt);
    }
}
