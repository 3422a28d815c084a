using System.Text.Json;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Engine.Agents;
using Sessions.Api.Engine.Streams;
using Sessions.Api.Http.Auth;

namespace Sessions.Api.Http.OpenAi;

/// <summary>
/// <c>/v1/chat/completions</c>: stateless; or a turn of a session that a header names, for user interfaces that speak nothing else.
/// </summary>
internal static class ChatCompletionsApi
{
    /// <summary>Maps the endpoint.</summary>
    public static void MapChatCompletions(this RouteGroupBuilder v1) => v1.MapPost("/chat/completions", CreateAsync)
        .WithTags("OpenAI: chat completions")
        .WithName("createChatCompletion")
        .WithSummary("Create a chat completion")
        .WithDescription(
            "Nothing is stored, unless the header X-Session-Id names a session: "
            + "then the messages behind the last assistant message are a turn of it, and the history is the session's.")
        .TakesContent()
        .Problems(StatusCodes.Status404NotFound, StatusCodes.Status502BadGateway, StatusCodes.Status504GatewayTimeout);

    private static async Task<IResult> CreateAsync(
        Body<JsonBody> body, Caller caller, SessionOwner owner, HttpContext http, AgentCatalog agents,
        OpenAiSettings settings, LimitSettings limits, StreamedTurns streams,
        RepeatedRequests repeated, SessionLog log, CancellationToken cancellationToken)
    {
        var given = body.Value.Value;
        var fields = new Fields(given);
        if (fields.Integer("n", 1) > 1)
        {
            throw new OpenAiException("n", "Unsupported parameter: 'n'. One answer is made for each request.", "unsupported_parameter");
        }

        // Other fields that are not known are left alone here: user interfaces send more than OpenAI's own clients do.
        fields.Refuse("audio", "This server gives texts.");
        if (fields.Flag("logprobs") == true)
        {
            throw new OpenAiException("logprobs", "Unsupported parameter: 'logprobs'. This server gives none.", "unsupported_parameter");
        }

        fields.Refuse("functions", "Use 'tools'.");
        fields.Refuse("function_call", "Use 'tool_choice'.");
        var messages = ChatMessages.Read(fields.RequiredArray("messages"));
        if (messages.Count == 0)
        {
            throw new OpenAiException("messages", "Invalid 'messages': must hold at least one message.", "empty_array");
        }

        var model = fields.Text("model");
        var agent = agents.ForModel(model);
        var options = ReadOptions(fields);
        var named = settings.SessionOf(http.Request.Headers);
        SessionRef? session = named is null ? null : await log.RefOfAsync(named, cancellationToken);
        var first = 0;
        if (session is not null)
        {
            // What a user interface sends in front each time are instructions, and no part of the session; what it sends again of the
            // session is there already.
            var leading = messages.FindIndex(message => message.Role is not ("system" or "developer"));
            leading = leading < 0 ? messages.Count : leading;
            first = Math.Max(leading, messages.FindLastIndex(message => message.Role == "assistant") + 1);
            options = options with { Instructions = InstructionsOf(messages[..leading]) };
        }

        var input = Items.OfJson(ItemJson.Join([.. messages[first..].SelectMany(message => message.Items)]));
        if (session is not null && first == messages.Count)
        {
            throw new OpenAiException(
                "messages",
                "Invalid 'messages': behind the last assistant message there is nothing new for the session.");
        }

        OpenAiError ErrorOf(Error error) => ChatMessages.ErrorOf(error, messages, first);
        var actor = caller.ActingFor(owner);
        var scope = caller.KeyScope(actor);
        var command = new TurnCommand
        {
            Session = session,
            Kind = session is null ? SessionKind.Chain : SessionKind.Session,
            Owner = actor,
            Input = input,
            Agent = agent,
            Options = options,
            Store = session is not null,
            Idempotency = session is null ? RequestKeys.Read(http.Request.Headers, "chat", scope, given)
                : RequestKeys.Read(http.Request.Headers, "chat", scope, given, session.ToString()),
            History = session is null ? new HistoryBounds(0, limits.HistoryBytes, MayCut: true) : null,
            CalledFrom = http.Request.Headers[AgentHeaders.SessionId],
        };
        var isStream = fields.Flag("stream") == true;
        var includesUsage = fields.Object("stream_options") is { } stream
            && new Fields(stream, "stream_options.").Flag("include_usage") == true;
        try
        {
            agent.Check(input, options);
            if (isStream)
            {
                return new TurnEventStream(
                    await repeated.StreamAsync(http, NameOf(scope, session), given, command, cancellationToken),
                    0,
                    new ChatChunks(model ?? agent.Type, includesUsage, ErrorOf),
                    streams);
            }

            var result = await repeated.RunAsync(http, NameOf(scope, session), given, command, cancellationToken);
            RequestKeys.MarkReplayed(http, result.Replayed);
            return new JsonResult(ChatCompletion.Write(result, model ?? agent.Type));
        }
        catch (DomainException e)
        {
            return ErrorOf(e.Error);
        }
    }

    // The body does not tell the session.
    private static string NameOf(string? scope, SessionRef? session) => $"{scope}\n{session}";

    private static string? InstructionsOf(List<(string Role, List<ReadOnlyMemory<byte>> Items)> messages)
    {
        List<string> texts = [];
        foreach (var (role, items) in messages)
        {
            if (role is "system" or "developer" && items.Count > 0)
            {
                foreach (var part in JsonElement.Parse(items[0].Span).GetProperty("content").EnumerateArray())
                {
                    if (part.TryGetProperty("text", out var text))
                    {
                        texts.Add(text.GetString()!);
                    }
                }
            }
        }

        return texts.Count == 0 ? null : string.Join('\n', texts);
    }

    private static AnswerOptions ReadOptions(Fields fields)
    {
        List<FunctionTool> tools = [];
        foreach (var tool in fields.Array("tools")?.EnumerateArray() ?? default)
        {
            var name = $"tools[{tools.Count}]";
            var given = new Fields(tool, $"{name}.");
            if (given.Text("type") is not "function" and var type)
            {
                throw new OpenAiException(
                    $"{name}.type", $"Unsupported tool: '{Error.Shorten(type ?? "")}'. Tools are of type 'function'.",
                    "unsupported_parameter");
            }

            var function = given.RequiredObject("function");
            tools.Add(ToolFields.ReadFunction(new Fields(function, $"{name}.function."), $"{name}.function"));
        }

        return new AnswerOptions
        {
            Temperature = fields.Number("temperature", 0, 2),
            TopP = fields.Number("top_p", 0, 1),
            FrequencyPenalty = fields.Number("frequency_penalty", -2, 2),
            PresencePenalty = fields.Number("presence_penalty", -2, 2),
            MaxOutputTokens = fields.Integer("max_completion_tokens", 1) ?? fields.Integer("max_tokens", 1),
            Seed = fields.Long("seed"),
            Stop = ReadStop(fields),
            Tools = tools,
            ToolChoice = ToolFields.ReadChoice(fields.Any("tool_choice"), tools),
            ParallelToolCalls = fields.Flag("parallel_tool_calls"),
            Format = fields.Object("response_format") is { } format ? ToolFields.ReadFormat(format, "response_format.") : null,
            ReasoningEffort = fields.Word("reasoning_effort", [.. AnswerOptions.ReasoningEfforts]),
            Verbosity = fields.Word("verbosity", "low", "medium", "high"),
        };
    }

    private static List<string>? ReadStop(Fields fields)
    {
        if (fields.Any("stop") is not { } stop)
        {
            return null;
        }

        if (stop.ValueKind == JsonValueKind.String)
        {
            return [fields.Text("stop")!];
        }

        return stop.ValueKind == JsonValueKind.Array && stop.GetArrayLength() <= 4
        && stop.EnumerateArray().All(text => text.ValueKind == JsonValueKind.String)
            ? [.. stop.EnumerateArray().Select(text => text.GetString()!)]
            : throw new OpenAiException(
                "stop", "Invalid type for 'stop': expected a text, or an array of at most 4 texts.",
                "invalid_type");
    }
}
