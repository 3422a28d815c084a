using System.Runtime.InteropServices;
using System.Text.Json;
using Sessions.Api.Domain;
using Sessions.Api.Engine.Agents;

namespace Sessions.Api.Http.OpenAi;

/// <summary>The body of <c>POST /v1/responses</c>, checked.</summary>
internal sealed record ResponseRequest
{
    // Those that other services know and this one does not are refused below, by name and with a reason.
    private static readonly string[] Known =
    [
        "background", "context_management", "conversation", "include", "input", "instructions",
        "max_output_tokens", "max_tool_calls", "metadata", "model", "moderation",
        "parallel_tool_calls", "previous_response_id", "prompt", "prompt_cache_key",
        "prompt_cache_options", "prompt_cache_retention", "reasoning", "safety_identifier",
        "service_tier", "store", "stream",
        "stream_options", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user",
    ];

    private static readonly string[] Includes =
    [
        "code_interpreter_call.outputs", "computer_call_output.output.image_url", "file_search_call.results",
        "message.input_image.image_url", "message.output_text.logprobs",
        "reasoning.encrypted_content", "web_search_call.action.sources", "web_search_call.results",
    ];

    // What a Response tells as it was sent.
    private static readonly string[] Echoes =
        ["prompt_cache_key", "safety_identifier", "temperature", "text", "tool_choice", "top_p", "user"];

    /// <summary>The body as it was sent.</summary>
    public required JsonElement Body { get; init; }

    /// <summary>The model, as it was sent.</summary>
    public string? Model { get; init; }

    /// <summary>A text, where the input is one.</summary>
    public Utf8Text? Text { get; init; }

    /// <summary>The items, where the input is not a text.</summary>
    public IReadOnlyList<InputItem> Items { get; init; } = [];

    /// <summary>The conversation that is continued: its id, of whichever kind.</summary>
    public string? Conversation { get; init; }

    /// <summary>The response that is continued.</summary>
    public string? PreviousResponseId { get; init; }

    /// <summary>Whether the response can be found afterwards.</summary>
    public bool Store { get; init; } = true;

    /// <summary>Whether the answer comes as server-sent events.</summary>
    public bool Stream { get; init; }

    /// <summary>Whether the oldest of a history that is too long are left out.</summary>
    public bool Truncates { get; init; }

    /// <summary>The response's metadata.</summary>
    public required OrderedDictionary<string, string> Metadata { get; init; }

    /// <summary>How the agent is to answer.</summary>
    public required AnswerOptions Options { get; init; }

    /// <summary>Reads a body.</summary>
    /// <exception cref="OpenAiException">Something in it is not allowed.</exception>
    public static ResponseRequest Read(JsonElement body)
    {
        var fields = new Fields(body);
        fields.RequireKnown(Known);
        if (fields.Flag("background") == true)
        {
            throw new OpenAiException(
                "background", "Unsupported parameter: 'background'. Responses are made while the request waits, or streamed.",
                "unsupported_parameter");
        }

        fields.Refuse("prompt", "Prompt templates are not kept here: send the input itself.");
        fields.Refuse("context_management", "Use 'truncation', or an agent that summarises.");
        fields.Refuse("moderation", "This server does not moderate.");
        _ = fields.Integer("top_logprobs", 0, 0);
        _ = fields.Object("stream_options");
        _ = fields.Object("prompt_cache_options");
        CheckIncludes(fields.Array("include"));
        CheckLabels(fields);

        var (conversation, previous) = (ReadConversation(fields), fields.Text("previous_response_id"));
        if (conversation is not null && previous is not null)
        {
            throw new OpenAiException(
                "previous_response_id", "Mutually exclusive parameters: 'previous_response_id' and 'conversation'.",
                "mutually_exclusive_parameters");
        }

        var input = fields.Required("input");
        if (input.ValueKind is not (JsonValueKind.String or JsonValueKind.Array))
        {
            throw new OpenAiException("input", "Invalid type for 'input': expected a text or an array of items.", "invalid_type");
        }

        return new ResponseRequest
        {
            Body = body,
            Model = fields.Text("model"),
            Text = input.ValueKind == JsonValueKind.String ? (Utf8Text)fields.Text("input")! : (Utf8Text?)null,
            Items = input.ValueKind == JsonValueKind.Array ? InputItems.Read(input, "input") : [],
            Conversation = conversation,
            PreviousResponseId = previous,
            Store = fields.Flag("store") ?? true,
            Stream = fields.Flag("stream") ?? false,
            Truncates = fields.Word("truncation", "auto", "disabled") == "auto",
            Metadata = OpenAiMetadata.Read(fields.Any("metadata")) ?? [],
            Options = ReadOptions(fields),
        };
    }

    /// <summary>
    /// What a Response tells of it again. It is held for as long as the stream of the turn: the rest, which may be large, is not.
    /// </summary>
    public ResponseRequest Echoed() => this with
    {
        Text = null,
        Items = [],
        Body = JsonElement.Parse(Json.Write(Body, static (json, body) =>
        {
            json.WriteStartObject();
            foreach (var name in Echoes)
            {
                if (body.TryGetProperty(name, out var value))
                {
                    json.WritePropertyName(name);
                    value.WriteTo(json);
                }
            }

            json.WriteEndObject();
        }).Span),
    };

    /// <summary>About how many bytes it takes to hold, beside its options.</summary>
    public long Bytes => JsonMarshal.GetRawUtf8Value(Body).Length;

    /// <summary>An error of its turn. What has gone since it was looked for is told in the words for what was never there.</summary>
    public OpenAiError ErrorOf(Error error) => error.Code != "session_not_found" ? OpenAiError.From(error)
        : Conversation is { } conversation ? OpenAiError.NotFound("Conversation", conversation)
        : PreviousResponseId is { } previous ? OpenAiError.PreviousResponseNotFound(previous)
        : OpenAiError.From(error);

    /// <summary>Refuses values that are not known.</summary>
    public static void CheckInclude(string? value, string param)
    {
        if (!Includes.Contains(value))
        {
            throw new OpenAiException(
                param, $"Invalid value: '{Error.Shorten(value ?? "")}'. Supported values are: {string.Join(", ", Includes)}.");
        }
    }

    private static void CheckIncludes(JsonElement? include)
    {
        var index = 0;
        foreach (var value in include?.EnumerateArray() ?? default)
        {
            CheckInclude(value.ValueKind == JsonValueKind.String ? value.GetString() : value.GetRawText(), $"include[{index++}]");
        }
    }

    // They are taken, told again where the response has them, and have no effect.
    private static void CheckLabels(Fields fields)
    {
        foreach (var name in (ReadOnlySpan<string>)
            ["user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier"])
        {
            _ = fields.Text(name);
        }
    }

    private static string? ReadConversation(Fields fields)
    {
        if (fields.Any("conversation") is not { } conversation)
        {
            return null;
        }

        if (conversation.ValueKind == JsonValueKind.Object)
        {
            return new Fields(conversation, "conversation.").RequiredText("id");
        }

        return conversation.ValueKind == JsonValueKind.String ? fields.Text("conversation")
            : throw new OpenAiException(
                "conversation", "Invalid type for 'conversation': expected an id, or an object with an id.",
                "invalid_type");
    }

    private static AnswerOptions ReadOptions(Fields fields)
    {
        var text = fields.Object("text") is { } form ? new Fields(form, "text.") : (Fields?)null;
        var reasoning = fields.Object("reasoning") is { } effort ? new Fields(effort, "reasoning.") : (Fields?)null;
        var tools = ToolFields.ReadTools(fields.Array("tools"));
        return new AnswerOptions
        {
            Temperature = fields.Number("temperature", 0, 2),
            TopP = fields.Number("top_p", 0, 1),
            MaxOutputTokens = fields.Integer("max_output_tokens", 1),
            MaxToolCalls = fields.Integer("max_tool_calls", 1),
            Instructions = fields.Text("instructions"),
            Tools = tools,
            ToolChoice = ToolFields.ReadChoice(fields.Any("tool_choice"), tools),
            ParallelToolCalls = fields.Flag("parallel_tool_calls"),
            Format = text?.Object("format") is { } format ? ToolFields.ReadFormat(format, "text.format.") : null,
            Verbosity = text?.Word("verbosity", "low", "medium", "high"),
            ReasoningEffort = reasoning?.Word("effort", [.. AnswerOptions.ReasoningEfforts]),
        };
    }
}

/// <summary>Tools, the choice among them, and the form of an answer.</summary>
internal static class ToolFields
{
    private const int MaxNameLength = 128;

    /// <summary>Reads functions of the client's.</summary>
    /// <exception cref="OpenAiException">A tool is of another type, or not whole.</exception>
    public static List<FunctionTool> ReadTools(JsonElement? tools)
    {
        List<FunctionTool> read = [];
        foreach (var tool in tools?.EnumerateArray() ?? default)
        {
            var name = $"tools[{read.Count}]";
            var fields = new Fields(tool, $"{name}.");
            if (fields.Text("type") is not "function" and var type)
            {
                throw new OpenAiException(
                    $"{name}.type",
                    $"Unsupported tool: '{Error.Shorten(type ?? "")}'. "
                    + "This server passes tools of type 'function' to the model; its own tools are part of its agents.",
                    "unsupported_parameter");
            }

            read.Add(ReadFunction(fields, name));
        }

        return read;
    }

    /// <summary>Reads a function's name, description, parameters and strictness.</summary>
    public static FunctionTool ReadFunction(Fields fields, string name)
    {
        var function = fields.RequiredText("name");
        return function.Length is > 0 and <= MaxNameLength
            ? new FunctionTool(function, fields.Text("description"), Apart(fields.Object("parameters")), fields.Flag("strict"))
            : throw new OpenAiException($"{name}.name", $"Invalid '{name}.name': must have 1 to {MaxNameLength} characters.");
    }

    // Held as long as its turn is told: not with the whole body around it.
    private static JsonElement? Apart(JsonElement? part) =>
        part is { } given ? JsonElement.Parse(JsonMarshal.GetRawUtf8Value(given)) : null;

    /// <summary>Reads which tools may or must be called.</summary>
    /// <exception cref="OpenAiException">It is another choice, or names no tool.</exception>
    public static string? ReadChoice(JsonElement? choice, List<FunctionTool> tools)
    {
        if (choice is not { } given)
        {
            return null;
        }

        if (given.ValueKind == JsonValueKind.String && given.GetString() is "none" or "auto" or "required")
        {
            return given.GetString();
        }

        if (given.ValueKind == JsonValueKind.Object && new Fields(given, "tool_choice.") is var fields && fields.Text("type") == "function")
        {
            // Responses have the name at the top, chat completions within.
            var name = fields.Text("name")
                ?? (fields.Object("function") is { } function ? new Fields(function, "tool_choice.function.").Text("name") : null);
            return tools.Exists(tool => tool.Name == name) ? $"function:{name}"
                : throw new OpenAiException("tool_choice", "Tool choice 'function' not found in 'tools' parameter.");
        }

        throw new OpenAiException(
            "tool_choice",
            "Invalid value for 'tool_choice'. Supported values are: none, auto, required, and {\"type\": \"function\", \"name\": …}.");
    }

    /// <summary>Reads the form of an answer.</summary>
    /// <exception cref="OpenAiException">It is another, or not whole.</exception>
    public static ResponseFormat ReadFormat(JsonElement format, string prefix)
    {
        var fields = new Fields(format, prefix);
        var type = fields.Word("type", "text", "json_object", "json_schema")
            ?? throw OpenAiException.Missing($"{prefix}type");
        if (type != "json_schema")
        {
            return new ResponseFormat(type) { Field = prefix.TrimEnd('.') };
        }

        // Chat completions have it one level deeper.
        var schema = fields.Object("json_schema") is { } inner ? new Fields(inner, $"{prefix}json_schema.") : fields;
        return new ResponseFormat(type, schema.Text("name"), schema.Text("description"),
            Apart(schema.Object("schema")) ?? throw OpenAiException.Missing($"{prefix}schema"), schema.Flag("strict"))
        {
            Field = prefix.TrimEnd('.'),
        };
    }
}
