using System.Diagnostics;

namespace Sessions.Api;

/// <summary>Runs turns: waits for the session, reads what was said before, asks the agent, commits.</summary>
internal sealed partial class TurnRunner(
    ISessionStore store, TurnGate gate, LimitSettings limits, TimeProvider time, QueryMetrics metrics, TelemetrySettings telemetry, Stopping stopping, ILogger<TurnRunner> logger)
{
    // How often a turn is run again because another process was faster on the same session.
    private const int Attempts = 3;

    /// <summary>Runs one turn.</summary>
    /// <param name="command">What is asked.</param>
    /// <param name="cancellationToken">The client's: when it goes away, nothing is committed.</param>
    /// <param name="stream">Where to tell what the agent says as it says it, if anybody wants to know.</param>
    /// <exception cref="ProblemException">The turn did not come about; the problem says why.</exception>
    public async Task<TurnResult> RunAsync(TurnCommand command, CancellationToken cancellationToken, StreamedTurn? stream = null)
    {
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, stopping.TimeIsUp);
        try
        {
            return await RunToEndAsync(command, stream, ended.Token);
        }
        catch (OperationCanceledException) when (stopping.TimeIsUp.IsCancellationRequested && !cancellationToken.IsCancellationRequested)
        {
            throw new ProblemException(Stopping.Refusal);
        }
    }

    private async Task<TurnResult> RunToEndAsync(TurnCommand command, StreamedTurn? stream, CancellationToken cancellationToken)
    {
        var sessionId = command.SessionId;
        Guid? reservedBy = null;
        if (sessionId is null)
        {
            sessionId = Identifiers.NewSessionId(time);
            if (command.Idempotency is { } idempotency)
            {
                var reservation = await store.ReserveSessionIdAsync(idempotency, command.Owner, sessionId, cancellationToken);
                sessionId = reservation.SameBody ? reservation.SessionId : throw new ProblemException(IdempotencyKeys.Reused);
                reservedBy = idempotency.Key;
            }
        }

        using var activity = QueryMetrics.Source.StartActivity("turn");
        activity?.SetTag("gen_ai.conversation.id", sessionId).SetTag("sessions.agent_type", command.Agent.Type);

        var arrived = time.GetTimestamp();
        using var place = await gate.EnterAsync(sessionId, command.Owner, command.Idempotency?.Key, command.OnBusy ?? limits.OnBusy, cancellationToken);
        metrics.Waited(time.GetElapsedTime(arrived));

        var request = new TurnRequest
        {
            SessionId = sessionId,
            Owner = command.Owner,
            HistoryTurns = command.Agent.HistoryTurns(command.Parameters),
            Idempotency = command.Idempotency,
            ReservedBy = reservedBy,
            Wait = command.OnBusy == OnBusy.Reject ? TimeSpan.Zero : TimeSpan.FromSeconds(limits.TurnWaitSeconds),
        };
        var began = time.GetTimestamp();
        var outcome = "cancelled";
        try
        {
            // What has been told can't be taken back: a stream is not run again.
            for (var attempt = 1; attempt <= (stream is null ? Attempts : 1); attempt++)
            {
                if (await TryAsync(command, request, stream, cancellationToken) is { } result)
                {
                    activity?.SetTag("sessions.turn", result.Turn.Number);
                    outcome = result.Replayed ? "replayed" : "committed";
                    return result;
                }

                Log.Stale(logger, sessionId, attempt);
            }

            outcome = "refused";
            throw TurnGate.Busy(sessionId);
        }
        catch (AgentException e)
        {
            outcome = "failed";
            Log.AgentFailed(logger, command.Agent.Type, sessionId, e.Message, telemetry.IncludeContent ? e.InnerException : null);
            activity?.SetStatus(ActivityStatusCode.Error, e.Message);
            throw new ProblemException(new Problem(
                e.TimedOut ? StatusCodes.Status504GatewayTimeout : StatusCodes.Status502BadGateway, e.TimedOut ? "agent_timeout" : "agent_failed", e.Message)
            { ThreadId = sessionId });
        }
        catch (ProblemException)
        {
            outcome = "refused";
            throw;
        }
        catch (StoreUnavailableException)
        {
            outcome = "unavailable";
            throw;
        }
        finally
        {
            metrics.Ended(command.Agent.Type, outcome, time.GetElapsedTime(began));
        }
    }

    // Null: the session has moved on meanwhile, and the agent has answered from what is no longer the latest.
    private async Task<TurnResult?> TryAsync(TurnCommand command, TurnRequest request, StreamedTurn? stream, CancellationToken cancellationToken)
    {
        var start = await store.BeginTurnAsync(request, cancellationToken);
        switch (start.Status)
        {
            case TurnStartStatus.NotFound:
                throw new ProblemException(Problem.SessionNotFound(request.SessionId));
            case TurnStartStatus.KeyReused:
                throw new ProblemException(IdempotencyKeys.Reused);
            case TurnStartStatus.Busy:
                throw TurnGate.Busy(request.SessionId);
            case TurnStartStatus.Replayed:
                return new TurnResult(request.SessionId, start.Session!.UserId, start.Replay!, Replayed: true);
        }

        try
        {
            var number = (start.Session?.TurnCount ?? 0) + 1;
            stream?.Begin(request.SessionId, number, start.Session is null);
            AgentAnswer answer;
            try
            {
                answer = await command.Agent.AnswerAsync(
                    request.SessionId, command.Query, start.Session?.Summary, start.History, command.Parameters, stream is null ? null : stream.Add, cancellationToken);
            }
            catch (AgentException e)
            {
                // The client may have gone by now: the failure is recorded all the same.
                await store.FailTurnAsync(start, e.Message, CancellationToken.None);
                throw;
            }

            cancellationToken.ThrowIfCancellationRequested();
            var turn = new Turn
            {
                Number = number,
                Query = command.Query,
                Response = answer.Text,
                AgentType = command.Agent.Type,
                AgentUsed = answer.AgentUsed,
                CreatedAt = time.GetUtcNowMicroseconds(),
                ExecutionTime = answer.ExecutionTime,
                InputTokens = answer.InputTokens,
                OutputTokens = answer.OutputTokens,
                StartedSession = start.Session is null,
            };

            // From here on the turn is made: a client that goes away now finds it in the history.
            return await store.CommitTurnAsync(start, turn, answer.Summary, CancellationToken.None) switch
            {
                CommitStatus.Committed => new TurnResult(request.SessionId, start.Session?.UserId ?? request.Owner.UserId, turn, Replayed: false),
                CommitStatus.Stale => null,
                _ => throw new ProblemException(new Problem(StatusCodes.Status409Conflict, "session_gone",
                    "The session was deleted, or made room for a newer one, while the agent was answering; nothing of this turn was kept.")
                { ThreadId = request.SessionId }),
            };
        }
        finally
        {
            await store.AbandonTurnAsync(start, CancellationToken.None);
        }
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 10, Level = LogLevel.Warning, Message = "Agent {AgentType} failed in session {SessionId}: {Reason}")]
        public static partial void AgentFailed(ILogger logger, string agentType, string sessionId, string reason, Exception? exception);

        [LoggerMessage(EventId = 11, Level = LogLevel.Information, Message = "Session {SessionId} moved on during a turn; running it again ({Attempt})")]
        public static partial void Stale(ILogger logger, string sessionId, int attempt);
    }
}

/// <summary>A turn to be run.</summary>
/// <param name="SessionId">The session to continue; <see langword="null"/>: a new one.</param>
/// <param name="Owner">On whose behalf.</param>
/// <param name="Query">What is asked.</param>
/// <param name="Agent">Who answers.</param>
/// <param name="Parameters">What the agent is to heed.</param>
/// <param name="Idempotency">The request's key, if it has one.</param>
/// <param name="OnBusy">What to do while another turn runs; <see langword="null"/>: as configured.</param>
internal sealed record TurnCommand(
    string? SessionId, Owner Owner, Utf8Text Query, Agent Agent, GenerationParameters Parameters, Idempotency? Idempotency, OnBusy? OnBusy);

/// <summary>A turn that is in the history.</summary>
/// <param name="SessionId">Its session.</param>
/// <param name="UserId">The user that the session is bound to, if any.</param>
/// <param name="Turn">The turn.</param>
/// <param name="Replayed">Whether it was there before.</param>
internal sealed record TurnResult(string SessionId, string? UserId, Turn Turn, bool Replayed);
