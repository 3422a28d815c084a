using System.Collections.Frozen;
using System.Text.Json;
using Microsoft.Extensions.AI;
using Sessions.Api.Domain;
using Sessions.Api.Engine.Agents.Tools;

namespace Sessions.Api.Engine.Agents;

/// <summary>One entry of the <c>agents:</c> section, ready to answer.</summary>
/// <param name="type">Its <c>agent_type</c>.</param>
/// <param name="settings">The entry.</param>
/// <param name="client">What answers.</param>
/// <param name="tools">The tools that it may call here, if it has any.</param>
/// <param name="limits">The operator's bounds.</param>
/// <param name="time">The clock.</param>
/// <param name="logger">Told what clients are not.</param>
internal sealed partial class Agent(
    string type, AgentSettings settings, IChatClient client, ToolSet? tools, LimitSettings limits, TimeProvider time, ILogger<Agent> logger)
    : IAsyncDisposable
{
    // How many pieces of an answer may wait for what comes with them.
    private const int MaxUnflushed = 32;

    // What runs the tools, and asks the model again with what they have given.
    private readonly FunctionInvokingChatClient? _toolLoop = tools is null ? null
        : new FunctionInvokingChatClient(new ToolRoundsClient(client)) { MaximumIterationsPerRequest = settings.MaxToolRounds };

    private readonly bool _isBuiltin = settings.Provider == AgentProvider.Builtin;
    private readonly string _name = settings.Provider == AgentProvider.Builtin
        ? BuiltinChatClient.Name
        : $"{ServiceDefaults.Settings.NameOf(settings.Provider)}/{settings.Model}";
    private readonly Summarizer? _summarizer = settings.Summarize ? new Summarizer(client, settings.HistoryTurns) : null;

    /// <summary>Its <c>agent_type</c>, which is also its model's name under <c>/v1</c>.</summary>
    public string Type { get; } = type;

    /// <summary>Other names for it.</summary>
    public IReadOnlyList<string> Aliases => settings.Aliases;

    /// <summary>What it is good for, if its operator says.</summary>
    public string? Description => settings.Description;

    /// <summary>The model, as its provider names it; the built-in agent has none.</summary>
    public string? Model => settings.Model;

    /// <summary>What it takes beside text.</summary>
    public IReadOnlyList<AgentContent> Accepts => settings.Accepts;

    /// <summary>What kind of provider answers.</summary>
    public AgentProvider Provider => settings.Provider;

    /// <summary>The tools that it may call on the server.</summary>
    public IReadOnlyList<AgentTool> Tools => tools?.Tools ?? [];

    /// <summary>The servers of these tools.</summary>
    public IReadOnlyList<ToolServer> ToolServers => tools?.Servers ?? [];

    /// <summary>How it was when it was asked last; <see langword="null"/>: it has not been.</summary>
    public AgentHealth? Health { get; private set; }

    /// <summary>Whether it takes functions of the client's.</summary>
    public bool TakesTools => !_isBuiltin;

    /// <summary>How long it may take at the most, retries included.</summary>
    public TimeSpan Timeout { get; } = TimeSpan.FromSeconds(settings.TimeoutSeconds);

    /// <summary>Whether it has answered before its call returns.</summary>
    public bool AnswersAtOnce(bool isStreamed) => _isBuiltin && !isStreamed && settings.HistoryTokens == 0;

    /// <summary>
    /// How much of the history it wants for a query with these options, within the operator's bounds: a query that asks for more turns than
    /// <c>history_turns</c> is given these, and never more bytes than <c>limits.history_bytes</c>.
    /// </summary>
    public HistoryBounds HistoryFor(AnswerOptions options) => new(
        options.HistoryTurns is { } asked ? Math.Min(asked, settings.HistoryTurns) : _summarizer?.HistoryTurns ?? settings.HistoryTurns,
        limits.HistoryBytes,
        MayCut: true);

    /// <summary>
    /// What of a history it would be given, without making a new summary: as for a query that says nothing of its own about it.
    /// </summary>
    public async ValueTask<AgentWindow> WindowAsync(
        IReadOnlyList<Turn> history, IReadOnlyList<Turn> needed, Summary? summary, CancellationToken cancellationToken)
    {
        var known = _summarizer is null ? null : summary;
        IReadOnlyList<Turn> turns = known is null ? history : [.. history.Where(turn => turn.Number > known.CoversTurns)];
        return new AgentWindow(
            await WithinBudgetAsync(turns, needed, cancellationToken), known, !string.IsNullOrEmpty(settings.Instructions));
    }

    /// <summary>Refuses content and options that it can't take: images, files, tools, instructions.</summary>
    /// <exception cref="DomainException">It can't: the error names the part.</exception>
    public void Check(Items input, AnswerOptions options)
    {
        if (options.Tools.Count > 0 && !TakesTools)
        {
            throw Unsupported("tools", "this agent takes no tools");
        }

        if (options.ToolChoice == "required" && options.Tools.Count == 0 && tools is null)
        {
            throw Unsupported("tool_choice", "there is no tool that could be called");
        }

        if (_isBuiltin && options.Format is { Type: not "text" } format)
        {
            throw Unsupported(format.Field, "this agent answers in prose");
        }

        if (options.Instructions is not null && !settings.AllowInstructions)
        {
            throw Unsupported("instructions", "this agent takes no instructions of a request's");
        }

        if (Unknown(options) is { } unknown)
        {
            throw Unsupported(unknown, "this agent's provider does not know it");
        }

        foreach (var name in options.Others?.Keys ?? [])
        {
            if (!AgentOptions.IsParameter(name))
            {
                throw new DomainException(Error.InvalidField($"parameters.{Error.Shorten(name)}",
                    "a parameter's name must be 1 to 64 letters, digits and underscores"));
            }
        }

        if (input.Form == ItemsForm.Json)
        {
            using var items = new ItemMessages(settings);
            items.Add(input, ItemSide.Input, "input");
            items.WriteTo([]);
        }
    }

    /// <summary>Connects to the servers of its tools, if it has any, before anything of a turn is told.</summary>
    /// <exception cref="AgentException"><c>agent_tools_unavailable</c>: one of them can't be reached.</exception>
    /// <exception cref="DomainException">A function of the client's has the name of a tool.</exception>
    public async ValueTask PrepareAsync(AnswerOptions options, CancellationToken cancellationToken)
    {
        if (tools is not null)
        {
            CheckNames(options, await ConnectAsync(tools, cancellationToken));
        }
    }

    /// <summary>Refuses a history that it can't take, before anything of a turn is told. Where some of it may yet be left out, that is
    /// found out when it answers.</summary>
    /// <param name="history">The turns before.</param>
    /// <param name="needed">Those with the calls whose outputs are sent, also from before these: they are given in any case.</param>
    /// <param name="mayCut">Whether the oldest may be left out.</param>
    /// <exception cref="DomainException"><c>content_not_supported</c>.</exception>
    public void CheckHistory(IReadOnlyList<Turn> history, IReadOnlyList<Turn> needed, bool mayCut)
    {
        if (_isBuiltin)
        {
            return;
        }

        var isUnknown = mayCut && (_summarizer is not null || settings.HistoryTokens > 0);
        using var items = new ItemMessages(settings);
        foreach (var turn in isUnknown ? needed : WithNeeded(history, needed))
        {
            if (turn.Input.Form == ItemsForm.Json)
            {
                items.Add(turn.Input, ItemSide.Input);
            }

            if (turn.Output.Form == ItemsForm.Json)
            {
                items.Add(turn.Output, ItemSide.Output);
            }
        }

        items.WriteTo([]);
    }

    /// <summary>Answers.</summary>
    /// <param name="request">What it is asked.</param>
    /// <param name="observer">Told of items and texts as they come, if anybody wants to know. Not of beginning and end, which are the
    /// runner's.</param>
    /// <param name="stop">
    /// Asks it to stop and give what it has: the answer is then incomplete (<c>cancelled</c>). A turn whose client has gone is cancelled
    /// by <paramref name="cancellationToken"/> instead.
    /// </param>
    /// <param name="cancellationToken">Nobody wants the answer any longer.</param>
    /// <exception cref="AgentException">It could not.</exception>
    /// <exception cref="DomainException">The history holds what it can't take (<c>content_not_supported</c>).</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellationToken"/>.</exception>
    public async ValueTask<AgentAnswer> AnswerAsync(
        AgentRequest request, ITurnObserver? observer, CancellationToken stop, CancellationToken cancellationToken)
    {
        var started = time.GetTimestamp();

        // Who answers before it returns needs no clock to be stopped by.
        using var limited = AnswersAtOnce(observer is not null) ? null : new CancellationTokenSource(Timeout, time);
        using var linked = limited is null ? null : CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, limited.Token, stop);
        var ended = linked?.Token ?? cancellationToken;
        var output = new OutputBuilder(observer, limits.ResponseBytes);
        var call = new AgentCall(request, Timeout, isStreamed: observer is not null);
        try
        {
            if (tools is not null)
            {
                call.Tools = new ToolRun(request, output, await ConnectAsync(tools, ended));
            }

            var (history, summary, newSummary) = await FitAsync(request, started, ended);
            var conversation = new Conversation(Instructions(request.Options), summary, history, request.Input, settings, _name);
            if (!_isBuiltin)
            {
                AgentCall.Current = call;
            }

            var telling = observer is null ? AskAsync(conversation, request, call, output, ended)
                : StreamAsync(conversation, request, call, output, observer, ended);

            // WaitAsync: an agent that does not heed its token must not hold up the session.
            var told = telling.IsCompleted ? await telling : await telling.AsTask().WaitAsync(ended);
            var items = output.End();
            var tokens = await CountAsync(request.Input, items, ended);
            var answer = Answer(items, output.IsBlank, told, call, started, newSummary, tokens);
            Health = new AgentHealth(null, time.GetUtcNow());
            return answer;
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            output.Abandon();
            throw;
        }
        catch (Exception e) when (stop.IsCancellationRequested && e is not DomainException and not AgentException)
        {
            return new AgentAnswer(output.End(isStopped: true), _name, Elapsed(started))
            {
                IncompleteReason = "cancelled",
                Usage = call.Usage,
            };
        }
        catch (OperationCanceledException e) when (limited is { IsCancellationRequested: true })
        {
            output.Abandon();
            throw Noted(new AgentException(AgentFailure.TimedOut(Timeout), e));
        }
        catch (DomainException)
        {
            output.Abandon();
            throw;
        }
        catch (Exception e)
        {
            output.Abandon();
            throw Noted(Failed(e, call));
        }
    }

    private AgentException Noted(AgentException failure)
    {
        Health = new AgentHealth(failure.Error, time.GetUtcNow());
        return failure;
    }

    public ValueTask DisposeAsync() => tools?.DisposeAsync() ?? default;

    private async ValueTask<FrozenDictionary<string, OfferedTool>> ConnectAsync(ToolSet toolSet, CancellationToken cancellationToken)
    {
        try
        {
            return await toolSet.ConnectAsync(cancellationToken);
        }
        catch (AgentException e)
        {
            throw Noted(e);
        }
    }

    private static void CheckNames(AnswerOptions options, FrozenDictionary<string, OfferedTool> offered)
    {
        for (var i = 0; i < options.Tools.Count; i++)
        {
            if (offered.ContainsKey(options.Tools[i].Name))
            {
                throw new DomainException(
                    Error.InvalidField($"tools[{i}].name", $"'{options.Tools[i].Name}' is a tool that this agent has already"));
            }
        }
    }

    private async ValueTask<Told> AskAsync(
        Conversation conversation, AgentRequest request, AgentCall call, OutputBuilder output, CancellationToken cancellationToken)
    {
        var response = await (_toolLoop ?? client)
            .GetResponseAsync(conversation, AgentOptions.Make(request, call.Tools), cancellationToken);
        foreach (var content in call.Tools is null ? response.Messages.SelectMany(message => message.Contents) : [])
        {
            output.Add(content);
        }

        return new Told(response.FinishReason?.Value, response.ModelId);
    }

    private async ValueTask<Told> StreamAsync(
        Conversation conversation, AgentRequest request, AgentCall call, OutputBuilder output, ITurnObserver observer,
        CancellationToken cancellationToken)
    {
        var told = default(Told);
        await using var updates = (_toolLoop ?? client)
            .GetStreamingResponseAsync(conversation, AgentOptions.Make(request, call.Tools), cancellationToken)
            .GetAsyncEnumerator(cancellationToken);
        for (var unflushed = 1; ; unflushed++)
        {
            // What comes together is passed on together.
            var next = updates.MoveNextAsync();
            if (!next.IsCompleted || unflushed % MaxUnflushed == 0)
            {
                observer.Flush();
            }

            if (!await next)
            {
                return told;
            }

            var contents = updates.Current.Contents;
            for (var i = 0; call.Tools is null && i < contents.Count; i++)
            {
                output.Add(contents[i]);
            }

            told = new Told(updates.Current.FinishReason?.Value ?? told.FinishReason, updates.Current.ModelId ?? told.Model);
        }
    }

    private AgentAnswer Answer(
        Items items, bool isBlank, Told told, AgentCall call, long started, Summary? newSummary, int? historyTokens)
    {
        // As the provider said it; the library makes its own words of it.
        var last = call.Answers is [.., var answer] ? answer : null;
        var finishReason = last is null ? told.FinishReason : last.FinishReason;
        var incompleteReason = finishReason?.ToUpperInvariant() switch
        {
            "LENGTH" or "MAX_TOKENS" or "MAX_OUTPUT_TOKENS" or "MODEL_LENGTH" => "max_output_tokens",
            "CONTENT_FILTER" or "SAFETY" or "RECITATION" or "PROHIBITED_CONTENT" or "BLOCKLIST" => "content_filter",
            _ => null,
        };
        if (isBlank && incompleteReason is null)
        {
            throw new AgentException(AgentFailure.Failed(call.Tools is { HasCalls: true }
                ? "The agent called tools and returned no text."
                : "The agent returned no text."));
        }

        return new AgentAnswer(items, _name, Elapsed(started))
        {
            Model = _isBuiltin ? null : last?.Model ?? (string.IsNullOrEmpty(told.Model) ? null : told.Model),
            FinishReason = finishReason,
            IncompleteReason = incompleteReason,
            Usage = call.Usage,
            Summary = newSummary,
            HistoryTokens = historyTokens,
        };
    }

    private string? Instructions(AnswerOptions options) =>
        string.IsNullOrEmpty(options.Instructions) ? settings.Instructions
        : string.IsNullOrEmpty(settings.Instructions) ? options.Instructions
        : $"{settings.Instructions}\n\n{options.Instructions}";

    // What of the history the agent is given, and behind which summary.
    private async ValueTask<(IReadOnlyList<Turn> History, Summary? Summary, Summary? NewSummary)> FitAsync(
        AgentRequest request, long started, CancellationToken cancellationToken)
    {
        if (!request.MayCut)
        {
            return (WithNeeded(request.History, request.Needed), null, null);
        }

        if (_summarizer is null || request.Options.HistoryTurns is not null)
        {
            return (await WithinBudgetAsync(request.History, request.Needed, cancellationToken), null, null);
        }

        var history = request.Summary is { } known ? [.. request.History.Where(turn => turn.Number > known.CoversTurns)] : request.History;
        var newSummary = _summarizer.Due(request.Summary, history) is > 0 and var due
            ? await SummarizeAsync(request, history.Take(due), started, cancellationToken)
            : null;
        if (newSummary is not null)
        {
            history = [.. history.Where(turn => turn.Number > newSummary.CoversTurns)];
        }

        return (await WithinBudgetAsync(history, request.Needed, cancellationToken), newSummary ?? request.Summary, newSummary);
    }

    // Null where it can't be had: then the turns speak for themselves. It may take half of what time there is.
    private async Task<Summary?> SummarizeAsync(
        AgentRequest request, IEnumerable<Turn> turns, long started, CancellationToken cancellationToken)
    {
        var call = new AgentCall(request, Timeout, isStreamed: false);
        using var limited = new CancellationTokenSource(HalfOf(Timeout - time.GetElapsedTime(started)), time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, limited.Token);
        AgentCall.Current = call;
        try
        {
            var options = new ChatOptions { ConversationId = request.SessionId };
            var summary = await _summarizer!.WriteAsync(request.Summary, turns, options, linked.Token).WaitAsync(linked.Token);
            if (summary is null)
            {
                Log.NoSummary(logger, Type, "what the model wrote is none");
            }

            return summary;
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested)
        {
            Log.NoSummary(logger, Type, limited.IsCancellationRequested ? "it took too long" : Failed(e, call).Message);
            return null;
        }
    }

    private static TimeSpan HalfOf(TimeSpan left) => left > TimeSpan.Zero ? left / 2 : TimeSpan.Zero;

    // Never between a call and the output that is sent: whatever else is left out, its turn is given.
    private static IReadOnlyList<Turn> WithNeeded(IReadOnlyList<Turn> history, IReadOnlyList<Turn> needed) =>
        needed.Count == 0 || (history.Count > 0 && needed[0].Number >= history[0].Number) ? history
            : [.. needed.Where(turn => history.Count == 0 || turn.Number < history[0].Number), .. history];

    // Whole turns from the newest back, as long as they fit. They were counted when they were made; those that other agents made are
    // counted now.
    private ValueTask<IReadOnlyList<Turn>> WithinBudgetAsync(
        IReadOnlyList<Turn> history, IReadOnlyList<Turn> needed, CancellationToken cancellationToken) =>
        settings.HistoryTokens == 0 ? new(WithNeeded(history, needed)) : CountWithinBudgetAsync(history, needed, cancellationToken);

    private async ValueTask<IReadOnlyList<Turn>> CountWithinBudgetAsync(
        IReadOnlyList<Turn> history, IReadOnlyList<Turn> needed, CancellationToken cancellationToken)
    {
        long left = settings.HistoryTokens;
        var first = history.Count;
        while (first > 0)
        {
            var turn = history[first - 1];
            left -= turn.HistoryTokens
                ?? await Task.Run(() => HistoryTokens.Count(turn.Input, turn.Output, cancellationToken), cancellationToken);
            if (left < 0)
            {
                break;
            }

            first--;
        }

        return WithNeeded(first == 0 ? history : [.. history.Skip(first)], needed);
    }

    private ValueTask<int?> CountAsync(Items input, Items output, CancellationToken cancellationToken) =>
        settings.HistoryTokens == 0 ? default : CountInBackgroundAsync(input, output, cancellationToken);

    private static async ValueTask<int?> CountInBackgroundAsync(Items input, Items output, CancellationToken cancellationToken) =>
        await Task.Run(() => HistoryTokens.Count(input, output, cancellationToken), cancellationToken);

    private AgentException Failed(Exception e, AgentCall call)
    {
        var cause = AgentFailure.CauseOf(e);
        var failure = AgentFailure.Describe(cause, call);
        if (call.Refusal is { } refusal && failure.Error.Provider is not null)
        {
            Log.Refused(logger, Type, Endpoint, refusal.Status, refusal.Code, refusal.Type);
        }
        else if (cause is not AgentException && AgentFailure.IsUnreachable(cause))
        {
            var happened = call.IsAnswering || call.IsBrokenOff ? "broke its answer off" : "can't be reached";
            Log.Unreachable(logger, Type, Endpoint, happened, AgentFailure.WhyUnreachable(cause));
        }

        return failure;
    }

    // Without what may be a secret in it.
    private string Endpoint => settings.Endpoint?.GetComponents(UriComponents.SchemeAndServer | UriComponents.Path, UriFormat.UriEscaped)
        ?? $"{settings.Provider}";

    private TimeSpan Elapsed(long started)
    {
        var took = time.GetElapsedTime(started);
        return new TimeSpan(took.Ticks - (took.Ticks % TimeSpan.TicksPerMicrosecond));
    }

    // What a provider's wire, or its library, would leave out.
    private string? Unknown(AnswerOptions options) => (settings.Provider, settings.Api) switch
    {
        (AgentProvider.Openai, AgentApi.Responses) => UnknownNumber(options) ?? (options.Stop is null ? null : "parameters.stop"),
        (AgentProvider.Anthropic, _) => UnknownNumber(options)
            ?? (options.Others?.Keys.FirstOrDefault(name => name != "top_k") is { } other ? $"parameters.{Error.Shorten(other)}" : null)
            ?? UnknownVerbosity(options)
            ?? (options.Format is { Type: not "text" } format && !HasProperties(format) ? format.Field : null),
        (AgentProvider.Ollama, _) => UnknownVerbosity(options)
            ?? (options.ToolChoice is not (null or "auto" or "none") ? "tool_choice" : null)
            ?? (options is { ParallelToolCalls: false, Tools.Count: > 0, ToolChoice: not "none" } ? "parallel_tool_calls" : null),
        _ => null,
    };

    private static string? UnknownNumber(AnswerOptions options) =>
        options.Seed is not null ? "parameters.seed"
        : options.FrequencyPenalty is not (null or 0) ? "parameters.frequency_penalty"
        : options.PresencePenalty is not (null or 0) ? "parameters.presence_penalty"
        : null;

    // Its library passes on a schema of an object with properties, and no other form.
    private static bool HasProperties(ResponseFormat format) =>
        format.Schema is { ValueKind: JsonValueKind.Object } schema
        && schema.TryGetProperty("properties", out var properties) && properties.ValueKind == JsonValueKind.Object;

    // What is in the middle is what it is without being asked.
    private static string? UnknownVerbosity(AnswerOptions options) =>
        options.Verbosity is null or "medium" ? null : "text.verbosity";

    private static DomainException Unsupported(string field, string rule) =>
        new(new Error("unsupported_parameter", $"{field}: {rule}.") { Field = field, Rule = rule });

    private readonly record struct Told(string? FinishReason, string? Model);

    private static partial class Log
    {
        [LoggerMessage(EventId = 23, Level = LogLevel.Warning,
            Message = "Agent {AgentType}: {Endpoint} answered with status {Status} (code {Code}, type {Type})")]
        public static partial void Refused(ILogger logger, string agentType, string endpoint, int? status, string? code, string? type);

        [LoggerMessage(EventId = 24, Level = LogLevel.Warning, Message = "Agent {AgentType}: {Endpoint} {What} ({Reason})")]
        public static partial void Unreachable(ILogger logger, string agentType, string endpoint, string what, string reason);

        [LoggerMessage(EventId = 22, Level = LogLevel.Warning,
            Message = "Agent {AgentType}: no summary could be made; the turns are given as they are: {Reason}")]
        public static partial void NoSummary(ILogger logger, string agentType, string reason);
    }
}

/// <summary>What an agent is given beside what is asked.</summary>
/// <param name="Turns">Earlier turns, oldest first.</param>
/// <param name="Summary">What the turns before these amount to, if it is given that.</param>
/// <param name="HasInstructions">Whether it has instructions of its operator's.</param>
internal sealed record AgentWindow(IReadOnlyList<Turn> Turns, Summary? Summary, bool HasInstructions);
