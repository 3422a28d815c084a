using Sessions.Api.Domain;
using Sessions.Api.Engine.Agents.Tools;

namespace Sessions.Api.Engine.Agents;

/// <summary>
/// One question to a provider, for all that takes part in it: between the agent and the HTTP handler that it is sent by stand libraries
/// which pass on neither whom the request is for
/// nor what exactly came back.
/// </summary>
/// <param name="request">What the agent is asked.</param>
/// <param name="timeout">How long it may take.</param>
/// <param name="isStreamed">Whether the answer is asked for piece by piece.</param>
internal sealed class AgentCall(AgentRequest request, TimeSpan timeout, bool isStreamed)
{
    private static readonly AsyncLocal<AgentCall?> Flowing = new();

    private int _before;

    /// <summary>The one that is being made.</summary>
    public static AgentCall? Current
    {
        get => Flowing.Value;
        set => Flowing.Value = value;
    }

    /// <summary>What the agent is asked.</summary>
    public AgentRequest Request { get; } = request;

    /// <summary>How long it may take.</summary>
    public TimeSpan Timeout { get; } = timeout;

    /// <summary>Whether the answer is asked for piece by piece.</summary>
    public bool IsStreamed { get; } = isStreamed;

    /// <summary>What the provider has answered, in order: several answers where tools were run in between.</summary>
    public List<ProviderAnswer> Answers { get; } = [];

    /// <summary>The tools that are run here, if there are any.</summary>
    public ToolRun? Tools { get; set; }

    /// <summary>Whether the provider has begun to answer what it was asked last.</summary>
    public bool IsAnswering => Answers.Count > _before;

    /// <summary>Whether an answer was broken off, and then removed, as it was to be asked for again.</summary>
    public bool IsBrokenOff { get; set; }

    /// <summary>What the provider said when it refused, last.</summary>
    public ProviderRefusal? Refusal { get; set; }

    /// <summary>The provider is asked once more, as tools have run.</summary>
    public void BeginRound()
    {
        _before = Answers.Count;
        IsBrokenOff = false;
    }

    /// <summary>All tokens.</summary>
    public TokenUsage? Usage
    {
        get
        {
            TokenUsage? sum = null;
            foreach (var answer in Answers)
            {
                if (answer.Usage is { } usage)
                {
                    sum = sum is { } before
                        ? new TokenUsage(
                            Sum(before.InputTokens, usage.InputTokens), Sum(before.OutputTokens, usage.OutputTokens),
                            Sum(before.CachedInputTokens, usage.CachedInputTokens), Sum(before.ReasoningTokens, usage.ReasoningTokens))
                        : usage;
                }
            }

            return sum;
        }
    }

    // Numbers of a provider's may be anything.
    private static long? Sum(long? one, long? other) =>
        one is null && other is null ? null : (long)Int128.Min(long.MaxValue, (Int128)(one ?? 0) + (other ?? 0));
}

/// <summary>What a provider told beside its text, as it told it.</summary>
internal sealed class ProviderAnswer
{
    /// <summary>Why the model stopped, if it said; else a stream without an end was broken off.</summary>
    public string? FinishReason { get; set; }

    /// <summary>Tokens. Where a provider tells them with each piece, those told last are all.</summary>
    public TokenUsage? Usage { get; set; }

    /// <summary>The model, if it was named.</summary>
    public string? Model { get; set; }
}

/// <summary>What a provider said of its refusal: words for programs. Its message is not among them, as it may quote what a user
/// wrote.</summary>
/// <param name="Status">The status, or <see langword="null"/> where it came within an answer.</param>
/// <param name="Code">Its <c>error.code</c>.</param>
/// <param name="Type">Its <c>error.type</c>.</param>
/// <param name="RetryAfter">When to try again.</param>
internal sealed record ProviderRefusal(int? Status, string? Code, string? Type, TimeSpan? RetryAfter);
