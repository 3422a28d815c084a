using System.Runtime.InteropServices;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine;

/// <summary>What happens to a query while another one runs on its session.</summary>
internal enum OnBusy
{
    /// <summary>It waits, within <c>limits.turn_queue</c> and <c>limits.turn_wait_seconds</c>.</summary>
    Enqueue,

    /// <summary>It is refused at once.</summary>
    Reject,
}

/// <summary>A turn to be run by an agent.</summary>
internal sealed record TurnCommand
{
    /// <summary>The session to continue; <see langword="null"/>: a new one.</summary>
    public SessionRef? Session { get; init; }

    /// <summary>Whether there must be a session already, as under <c>/v1</c>.</summary>
    public bool MustExist { get; init; }

    /// <summary>What kind of session is created where there is none.</summary>
    public SessionKind Kind { get; init; }

    /// <summary>On whose behalf.</summary>
    public required Owner Owner { get; init; }

    /// <summary>What is asked.</summary>
    public required Items Input { get; init; }

    /// <summary>Who answers.</summary>
    public required Agents.Agent Agent { get; init; }

    /// <summary>How the agent is to answer.</summary>
    public required Agents.AnswerOptions Options { get; init; }

    /// <summary>The turn to go on from; <see langword="null"/>: the newest.</summary>
    public int? AfterTurn { get; init; }

    /// <summary>The session whose turns up to <see cref="AfterTurn"/> the turn's own begins with, if that is another one: see
    /// <see cref="BeginRequest.BranchOf"/>.</summary>
    public Session? BranchOf { get; init; }

    /// <summary>The request's key, if it has one.</summary>
    public Idempotency? Idempotency { get; init; }

    /// <summary>What to do while another turn runs; <see langword="null"/>: as configured.</summary>
    public OnBusy? OnBusy { get; init; }

    /// <summary>How much of the history the agent is given; <see langword="null"/>: as the agent is configured.</summary>
    public HistoryBounds? History { get; init; }

    /// <summary>Whether the turn is kept. Without, the session is only read.</summary>
    public bool Store { get; init; } = true;

    /// <summary>Makes the Response that is kept with the turn and told by its events, where the turn was asked for under
    /// <c>/v1</c>.</summary>
    public ResponseMaker? Response { get; init; }

    /// <summary>
    /// The session from inside whose turn this is asked, where the request says so: an agent that was told its session may not wait for
    /// the turn that it is part of.
    /// </summary>
    public string? CalledFrom { get; init; }

    /// <summary>Whether that Response is kept, so that it is found by its id; else it is only told.</summary>
    public bool KeepsResponse { get; init; } = true;

    /// <summary>About how many bytes it takes to hold.</summary>
    public long Bytes => Input.Length + (Response?.Bytes ?? 0) + (2L * (Options.Instructions?.Length ?? 0))
        + Options.Tools.Sum(tool => (2L * (tool.Name.Length + (tool.Description?.Length ?? 0)))
            + (tool.Parameters is { } parameters ? JsonMarshal.GetRawUtf8Value(parameters).Length : 0));
}

/// <summary>Makes the Response of a turn (see <see cref="Turn.Response"/>).</summary>
internal abstract class ResponseMaker
{
    /// <summary>Makes it out of what came of the run: called once, just before the commit, or when the turn has failed after it had
    /// begun.</summary>
    public abstract ReadOnlyMemory<byte> Make(RunOutcome outcome);

    /// <summary>About how many bytes it takes to hold.</summary>
    public abstract long Bytes { get; }
}

/// <summary>How much of a history is given.</summary>
/// <param name="Turns">How many turns at the most.</param>
/// <param name="Bytes">How many bytes their items may have.</param>
/// <param name="MayCut">Whether the oldest are left out where they don't fit; else the turn is refused with
/// <c>context_length_exceeded</c>.</param>
internal readonly record struct HistoryBounds(int Turns, int Bytes, bool MayCut);

/// <summary>What came of a run, before it is committed.</summary>
/// <param name="Answer">What the agent answered; <see langword="null"/>: it failed.</param>
/// <param name="Error">Why it failed.</param>
/// <param name="StartedAt">When the turn began.</param>
/// <param name="EndedAt">When the agent had ended.</param>
internal sealed record RunOutcome(Agents.AgentAnswer? Answer, Error? Error, DateTimeOffset StartedAt, DateTimeOffset EndedAt);

/// <summary>A turn that a client's own agent made, to be appended.</summary>
internal sealed record AppendCommand
{
    /// <summary>The session.</summary>
    public required SessionRef Session { get; init; }

    /// <summary>Whether there must be a session already; else one is created, as by a query.</summary>
    public bool MustExist { get; init; }

    /// <summary>On whose behalf.</summary>
    public required Owner Owner { get; init; }

    /// <summary>What came in.</summary>
    public required Items Input { get; init; }

    /// <summary>What came out.</summary>
    public required Items Output { get; init; }

    /// <summary>The agent, as the client names it.</summary>
    public string AgentType { get; init; } = "client";

    /// <summary>The number that the turn must get; another one is <c>turn_conflict</c>.</summary>
    public int? ExpectedTurn { get; init; }

    /// <summary>The request's key, if it has one.</summary>
    public Idempotency? Idempotency { get; init; }

    /// <summary>What to do while another turn runs; <see langword="null"/>: as configured.</summary>
    public OnBusy? OnBusy { get; init; }

    /// <inheritdoc cref="TurnCommand.CalledFrom"/>
    public string? CalledFrom { get; init; }
}
