namespace Sessions.Api.Domain;

/// <summary>What became of a turn. A turn that failed is not kept: it is counted and told in its session's head.</summary>
internal enum TurnStatus : byte
{
    /// <summary>An agent answered to the end.</summary>
    Completed,

    /// <summary>The answer stopped short: <see cref="Turn.IncompleteReason"/> says why.</summary>
    Incomplete,

    /// <summary>No agent of ours ran: a client appended it.</summary>
    Appended,
}

/// <summary>What became of a turn, as the API and exports name it: the order of the enum is free.</summary>
internal static class TurnStatuses
{
    /// <summary>The name of a status.</summary>
    public static string Name(this TurnStatus status) => status switch
    {
        TurnStatus.Completed => "completed",
        TurnStatus.Incomplete => "incomplete",
        _ => "appended",
    };

    /// <summary>The status of that name.</summary>
    /// <exception cref="InvalidDataException">There is none.</exception>
    public static TurnStatus Parse(string name) => name switch
    {
        "completed" => TurnStatus.Completed,
        "incomplete" => TurnStatus.Incomplete,
        "appended" => TurnStatus.Appended,
        _ => throw new InvalidDataException($"'{name}' is not a status of a turn."),
    };
}

/// <summary>
/// A turn: items in and items out, and what is known of the run between them. Appended once; changed only by deleting items of it, or its
/// response.
/// </summary>
internal sealed record Turn
{
    // Half of what a DateTimeOffset takes: histories are made of many turns.
    private readonly long _createdAt;

    /// <summary>Its place in the log: 1, 2, 3, … in the order of commits, without gaps.</summary>
    public required int Number { get; init; }

    /// <summary>The turn that it continues; 0: none, it is the first of its path.</summary>
    public required int Parent { get; init; }

    /// <summary>
    /// The first turn of the unbroken run it stands in: from there to this one each turn continues the one before it. So a path is found
    /// run by run, and that of a session
    /// without branches is one run.
    /// </summary>
    public required int RunStart { get; init; }

    /// <summary>What its ids are made of.</summary>
    public required TurnNonce Nonce { get; init; }

    /// <summary>What became of it.</summary>
    public TurnStatus Status { get; init; }

    /// <summary>Why it is <see cref="TurnStatus.Incomplete"/>: <c>max_output_tokens</c>, <c>content_filter</c>, <c>cancelled</c>,
    /// <c>interrupted</c>.</summary>
    public string? IncompleteReason { get; init; }

    /// <summary>What was asked.</summary>
    public required Items Input { get; init; }

    /// <summary>What was answered.</summary>
    public required Items Output { get; init; }

    /// <summary>The <c>agent_type</c> that was asked for; of an appended turn what its client says, or <c>client</c>.</summary>
    public required string AgentType { get; init; }

    /// <summary>What answered: the provider, and its model where it has one.</summary>
    public required string AgentUsed { get; init; }

    /// <summary>The model, as the provider names it, if it does.</summary>
    public string? Model { get; init; }

    /// <summary>Why the model stopped, as the provider says: <c>stop</c>, <c>length</c>, <c>tool_calls</c>, <c>content_filter</c>, or a
    /// word of its own.</summary>
    public string? FinishReason { get; init; }

    /// <summary>When the turn was committed (UTC, whole microseconds).</summary>
    public required DateTimeOffset CreatedAt
    {
        get => Timestamps.FromMicroseconds(_createdAt);
        init => _createdAt = value.ToMicroseconds();
    }

    /// <summary>How long the agent took, in whole microseconds.</summary>
    public TimeSpan ExecutionTime { get; init; }

    /// <summary>Tokens, as the model's provider counted them; <see langword="null"/> where it does not.</summary>
    public TokenUsage? Usage { get; init; }

    /// <summary>How many tokens its items take in a history, if that was ever counted (o200k_base).</summary>
    public int? HistoryTokens { get; init; }

    /// <summary>Whether this turn brought the session into being.</summary>
    public bool StartedSession { get; init; }

    /// <summary>
    /// Of a turn made by <c>POST /v1/responses</c> with <c>store</c>: every field of its Response but <c>id</c>, <c>output</c> and
    /// <c>conversation</c>, as a JSON object in UTF-8; else empty,
    /// and no response is found by the turn's id.
    /// </summary>
    public ReadOnlyMemory<byte> Response { get; init; }

    /// <summary>What its texts take together, in bytes.</summary>
    public long Bytes => (long)Input.Length + Output.Length + Response.Length;

    /// <summary>The turn at another place in the log; itself, where that is its place already.</summary>
    public Turn At(int number, int parent, int runStart) => (Number, Parent, RunStart) == (number, parent, runStart) ? this
        : this with { Number = number, Parent = parent, RunStart = runStart };

    /// <summary>The run of a turn: its parent's, where that is the turn before it, else one of its own.</summary>
    /// <param name="number">Its number.</param>
    /// <param name="parent">The turn that it continues; 0: none.</param>
    /// <param name="parentRun">The <see cref="RunStart"/> of that one.</param>
    public static int RunStartOf(int number, int parent, int parentRun) => parent > 0 && parent == number - 1 ? parentRun : number;
}

/// <summary>Tokens of a turn, as the model's provider counted them.</summary>
/// <param name="InputTokens">Read by the model.</param>
/// <param name="OutputTokens">Written by the model.</param>
/// <param name="CachedInputTokens">Of those read, how many came out of the provider's cache.</param>
/// <param name="ReasoningTokens">Of those written, how many the model kept to itself.</param>
internal sealed record TokenUsage(
    long? InputTokens, long? OutputTokens, long? CachedInputTokens = null, long? ReasoningTokens = null);

/// <summary>What the turns up to one of them amount to.</summary>
/// <param name="Text">In words, as an agent wrote it.</param>
/// <param name="CoversTurns">The number of the last turn it covers: it was read, and all before it on its path.</param>
internal sealed record Summary(Utf8Text Text, int CoversTurns);

/// <summary>A client's <c>Idempotency-Key</c> and what it stands for, both as 128-bit hashes.</summary>
/// <param name="Key">Of the key and its scope.</param>
/// <param name="Body">Of the request it came with: the same key with another request is a mistake.</param>
internal readonly record struct Idempotency(Guid Key, Guid Body);
