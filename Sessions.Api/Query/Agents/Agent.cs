using System.ClientModel;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.AI;
using Microsoft.ML.Tokenizers;

namespace Sessions.Api;

/// <summary>One entry of the <c>agents:</c> section, ready to answer.</summary>
internal sealed class Agent(string type, AgentSettings options, IChatClient client, LimitSettings limits, TimeProvider time)
{
    private static readonly Lazy<Tokenizer> Tokens = new(() => TiktokenTokenizer.CreateForEncoding("o200k_base"));

    // What SummarizingChatReducer calls it.
    private const string SummaryMark = "__summary__";

    private readonly string _name = options.Provider == AgentProvider.Builtin ? BuiltinChatClient.Name : $"openai/{options.Model}";

    private readonly bool _answersAtOnce = options.Provider == AgentProvider.Builtin;

    /// <summary>Its <c>agent_type</c>.</summary>
    public string Type { get; } = type;

    /// <summary>How many earlier turns it wants for a query with these parameters.</summary>
    public int HistoryTurns(GenerationParameters parameters) =>
        parameters.HistoryTurns ?? (options.Summarize ? (2 * options.HistoryTurns) + 1 : options.HistoryTurns);

    /// <summary>Answers a query.</summary>
    /// <param name="sessionId">The session, for spans.</param>
    /// <param name="query">What is asked.</param>
    /// <param name="summary">What the earliest turns amount to, if they were summarised.</param>
    /// <param name="history">What was said before, oldest first.</param>
    /// <param name="parameters">What to heed.</param>
    /// <param name="told">Called with each piece of the answer as it comes, if anybody wants to know.</param>
    /// <param name="cancellationToken">The caller's.</param>
    /// <exception cref="AgentException">It could not.</exception>
    /// <exception cref="OperationCanceledException">The caller did not want to wait any longer.</exception>
    public async Task<AgentAnswer> AnswerAsync(
        string sessionId, Utf8Text query, Summary? summary, IReadOnlyList<Turn> history, GenerationParameters parameters, Action<string>? told, CancellationToken cancellationToken)
    {
        var started = time.GetTimestamp();
        var timeout = TimeSpan.FromSeconds(options.TimeoutSeconds);

        // Who answers before it returns needs no clock to be stopped by.
        using var limited = _answersAtOnce && told is null ? null : new CancellationTokenSource(timeout, time);
        using var linked = limited is null ? null : CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, limited.Token);
        var stopped = linked?.Token ?? cancellationToken;
        try
        {
            // WaitAsync: an agent that does not heed its token must not hold up the session.
            Summary? newSummary = null;
            if (options.Summarize && parameters.HistoryTurns is null)
            {
                (newSummary, history) = await SummarizeAsync(summary, history, stopped).WaitAsync(stopped);
                summary = newSummary ?? summary;
            }
            else
            {
                summary = null;
            }

            var (messages, chatOptions) = (new Conversation(options.Instructions, summary, history, FirstWithinBudget(history), query), Options(sessionId, parameters));
            var response = await (told is null
                ? client.GetResponseAsync(messages, chatOptions, stopped)
                : StreamAsync(messages, chatOptions, told, stopped)).WaitAsync(stopped);
            return Check(response, time.GetElapsedTime(started)) with { Summary = newSummary };
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            throw;
        }
        catch (OperationCanceledException e) when (limited is { IsCancellationRequested: true })
        {
            throw new AgentException(string.Create(System.Globalization.CultureInfo.InvariantCulture, $"The agent did not answer within {timeout.TotalSeconds:0.###} s."), timedOut: true, e);
        }
        catch (AgentException)
        {
            throw;
        }
        catch (Exception e)
        {
            throw new AgentException(Describe(e), timedOut: false, e);
        }
    }

    private async Task<ChatResponse> StreamAsync(Conversation messages, ChatOptions chatOptions, Action<string> told, CancellationToken cancellationToken)
    {
        List<ChatResponseUpdate> updates = [];
        var held = "";
        var characters = 0;
        await foreach (var update in client.GetStreamingResponseAsync(messages, chatOptions, cancellationToken))
        {
            // After a time-out nobody waits for this any more, and nothing more may be told.
            cancellationToken.ThrowIfCancellationRequested();
            updates.Add(update);
            var text = held + update.Text;
            characters += update.Text.Length;
            if (characters > limits.ResponseBytes)
            {
                break;
            }

            // Half a surrogate pair waits for its other half.
            held = text.Length > 0 && char.IsHighSurrogate(text[^1]) ? text[^1..] : "";
            if (text.Length > held.Length)
            {
                told(WellFormed(text[..^held.Length]));
            }
        }

        if (held.Length > 0)
        {
            told(WellFormed(held));
        }

        return updates.ToChatResponse();
    }

    private AgentAnswer Check(ChatResponse response, TimeSpan took)
    {
        var text = response.Text;
        if (string.IsNullOrWhiteSpace(text))
        {
            throw new AgentException("The agent returned no text.");
        }

        // A model may emit half a surrogate pair; what is stored and sent is valid Unicode.
        Utf8Text answer = text;
        if (answer.Length > limits.ResponseBytes)
        {
            throw new AgentException($"The agent's answer is longer than the {limits.ResponseBytes} bytes that limits.response_bytes allows.");
        }

        return new AgentAnswer(
            answer, _name, new TimeSpan(took.Ticks - (took.Ticks % TimeSpan.TicksPerMicrosecond)), response.Usage?.InputTokenCount, response.Usage?.OutputTokenCount);
    }

    private static string WellFormed(string text)
    {
        for (var i = 0; i < text.Length; i++)
        {
            if (char.IsSurrogate(text[i]))
            {
                return Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text));
            }
        }

        return text;
    }

    // The library's reducer marks the message up to which it has summarised; the marks go into the store and come back as its own.
    private async Task<(Summary? Fresh, IReadOnlyList<Turn> Uncovered)> SummarizeAsync(Summary? summary, IReadOnlyList<Turn> history, CancellationToken cancellationToken)
    {
        var rest = history.Where(turn => turn.Number > (summary?.CoversTurns ?? 0)).ToList();
        if (rest.Count <= 2 * options.HistoryTurns)
        {
            return (null, rest);
        }

        List<ChatMessage> messages = [];
        if (summary is not null)
        {
            messages.Add(new ChatMessage(ChatRole.Assistant, "") { AdditionalProperties = new() { [SummaryMark] = summary.Text.ToString() } });
        }

        var before = messages.Count;
        foreach (var turn in rest)
        {
            messages.Add(new ChatMessage(ChatRole.User, turn.Query.ToString()));
            messages.Add(new ChatMessage(ChatRole.Assistant, turn.Response.ToString()));
        }

#pragma warning disable MEAI001 // Marked as experimental; the version is pinned, and a test holds it to what is used here.
        await new SummarizingChatReducer(client, 2 * options.HistoryTurns, 0).ReduceAsync(messages, cancellationToken);
#pragma warning restore MEAI001
        for (var i = messages.Count - 1; i >= before; i--)
        {
            if (messages[i].AdditionalProperties?.TryGetValue<string>(SummaryMark, out var text) == true && !string.IsNullOrWhiteSpace(text))
            {
                // Whole turns only: one whose answer is not covered stays.
                var covered = (i - before + 1) / 2;
                return covered == 0 ? (null, rest) : (new Summary(text, rest[covered - 1].Number), rest.GetRange(covered, rest.Count - covered));
            }
        }

        return (null, rest);
    }

    // Whole turns from the newest back, as long as they fit.
    private int FirstWithinBudget(IReadOnlyList<Turn> history)
    {
        if (options.HistoryTokens == 0)
        {
            return 0;
        }

        var left = options.HistoryTokens;
        var first = history.Count;
        while (first > 0)
        {
            left -= Tokens.Value.CountTokens(history[first - 1].Query.ToString()) + Tokens.Value.CountTokens(history[first - 1].Response.ToString());
            if (left < 0)
            {
                break;
            }

            first--;
        }

        return first;
    }

    private static ChatOptions Options(string sessionId, GenerationParameters parameters) => new()
    {
        ConversationId = sessionId,
        Temperature = parameters.Temperature,
        TopP = parameters.TopP,
        MaxOutputTokens = parameters.MaxOutputTokens,
        FrequencyPenalty = parameters.FrequencyPenalty,
        PresencePenalty = parameters.PresencePenalty,
        Seed = parameters.Seed,
        StopSequences = parameters.Stop,
        AdditionalProperties = parameters.Others is null ? null : new AdditionalPropertiesDictionary(parameters.Others),
    };

    // In words fit for a client: no addresses, no keys, nothing of the provider's own text.
    internal static string Describe(Exception e) => e switch
    {
        AgentException known => known.Message,
        ClientResultException { Status: > 0 } result => $"The agent's provider answered with status {result.Status}.",
        _ when e.GetBaseException() is HttpRequestException or System.Net.Sockets.SocketException or IOException || e is AggregateException
            => "The agent's provider can't be reached.",
        // Half a surrogate pair in what is JSON otherwise is an InvalidOperationException.
        JsonException or InvalidOperationException or FormatException => "The agent's answer can't be read.",
        _ => $"The agent failed ({e.GetType().Name}).",
    };
}

/// <summary>What an agent answered.</summary>
/// <param name="Text">The answer.</param>
/// <param name="AgentUsed">What answered.</param>
/// <param name="ExecutionTime">How long it took.</param>
/// <param name="InputTokens">Tokens read, if the provider told.</param>
/// <param name="OutputTokens">Tokens written, if the provider told.</param>
internal readonly record struct AgentAnswer(Utf8Text Text, string AgentUsed, TimeSpan ExecutionTime, long? InputTokens, long? OutputTokens)
{
    /// <summary>A new summary of the earliest turns, if it was time for one.</summary>
    public Summary? Summary { get; init; }
}

/// <summary>An agent could not answer.</summary>
/// <param name="message">Why, in words fit for a client.</param>
/// <param name="timedOut">Whether it took too long.</param>
/// <param name="innerException">What its library said.</param>
internal sealed class AgentException(string message, bool timedOut = false, Exception? innerException = null) : Exception(message, innerException)
{
    /// <summary>Whether it took too long.</summary>
    public bool TimedOut { get; } = timedOut;
}
