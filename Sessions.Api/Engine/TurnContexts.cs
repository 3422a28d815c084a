using Sessions.Api.Domain;
using Sessions.Api.Engine.Agents;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <summary>
/// Tells what a turn's agent was given. That is not stored beside the turns it is made of: it is put together again in the way it was for
/// the turn, by the agent's settings of today.
/// </summary>
internal sealed class TurnContexts(SessionLog log, AgentCatalog agents, LimitSettings limits)
{
    /// <summary>What a turn's agent was given.</summary>
    /// <returns><see langword="null"/>: there is no such session.</returns>
    /// <exception cref="DomainException"><c>no_such_turn</c>.</exception>
    public async Task<TurnContext?> FindAsync(SessionRef session, Owner owner, int number, CancellationToken cancellationToken)
    {
        var request = new TurnPageRequest { Limit = 1, MaxBytes = limits.PageBytes, After = number - 1, AllBranches = true };
        if (await log.ReadTurnsAsync(session, owner, request, cancellationToken) is not { Session.Kind: not SessionKind.Chain } page)
        {
            return null;
        }

        if (page.Turns is not [var turn] || turn.Number != number)
        {
            throw new DomainException(Error.NoSuchTurn("turn", page.Session.TurnCount));
        }

        var agent = turn.Status == TurnStatus.Appended ? null : agents.Find(turn.AgentType);
        if (agent is null)
        {
            return new TurnContext(page.Session.Id, turn, null, null);
        }

        // What is asked under /v1 is given all of the history that there is room for.
        var bounds = turn.Response.IsEmpty
            ? agent.HistoryFor(AnswerOptions.None)
            : new HistoryBounds(int.MaxValue, limits.HistoryBytes, MayCut: false);
        await using var begun = await log.BeginAsync(new BeginRequest
        {
            Session = session,
            Owner = owner,
            MustExist = true,
            HistoryTurns = bounds.Turns,
            HistoryBytes = bounds.Bytes,
            AfterTurn = turn.Parent,
            Wait = TimeSpan.Zero,
            MinLifetime = TimeSpan.Zero,
            ReadsOnly = true,
        }, cancellationToken);
        var history = begun.History;
        var needed = await log.FindCallsAsync(begun, turn.Input, Items.None, cancellationToken);
        return new TurnContext(page.Session.Id, turn, agent, bounds.MayCut
            ? await agent.WindowAsync(history, needed, TurnRunner.SummaryOf(begun, history), cancellationToken)
            : new AgentWindow(history, null, HasInstructions: (await agent.WindowAsync([], [], null, cancellationToken)).HasInstructions));
    }
}

/// <summary>What a turn's agent was given.</summary>
/// <param name="SessionId">Its session.</param>
/// <param name="Turn">The turn.</param>
/// <param name="Agent">Its agent; <see langword="null"/> where none ran here, or it is not configured any more.</param>
/// <param name="Window">What that one was given beside what was asked.</param>
internal sealed record TurnContext(string SessionId, Turn Turn, Agent? Agent, AgentWindow? Window);
