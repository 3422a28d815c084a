using System.Text;
using System.Text.Json;
using Microsoft.Extensions.AI;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Agents;

/// <summary>
/// Makes chat messages of items, in order: an assistant's step is one message with its text and its calls, followed at once by their
/// outputs, as models want them wherever the outputs stand among the items. Deleted items, and calls and outputs whose other half is gone,
/// are left out; content that the agent does not take is refused, never dropped.
/// </summary>
/// <param name="agent">The agent's settings: what it takes beside text, and how.</param>
internal sealed class ItemMessages(AgentSettings agent) : IDisposable
{
    private readonly List<Entry> _entries = [];
    private readonly List<JsonDocument> _documents = [];

    /// <summary>Adds one side of a turn.</summary>
    /// <param name="items">The items.</param>
    /// <param name="side">Which side: it tells who speaks where the items do not.</param>
    /// <param name="field">The items' name in the request, for messages about what is refused; <see langword="null"/>: they are from the
    /// history.</param>
    /// <param name="isForeign">Whether another agent made them: what it thought is sealed for itself alone.</param>
    public void Add(Items items, ItemSide side, string? field = null, bool isForeign = false)
    {
        switch (items.Form)
        {
            case ItemsForm.Text:
                _entries.Add(new Entry(side, items.Bytes, default, null, isForeign));
                break;
            case ItemsForm.Json:
                var document = JsonDocument.Parse(items.Bytes);
                _documents.Add(document);
                var index = 0;
                foreach (var item in document.RootElement.EnumerateArray())
                {
                    if (item.ValueKind == JsonValueKind.Object)
                    {
                        _entries.Add(new Entry(side, default, item, field is null ? null : $"{field}[{index}]", isForeign));
                    }

                    index++;
                }

                break;
        }
    }

    /// <summary>Makes the messages, behind those that are there.</summary>
    /// <exception cref="DomainException"><c>content_not_supported</c>: the agent does not take a part.</exception>
    public void WriteTo(List<ChatMessage> messages)
    {
        var outputs = _documents.Count == 0 ? null : FindOutputs();
        Step? step = null;
        for (var i = 0; i < _entries.Count; i++)
        {
            var entry = _entries[i];
            if (entry.Item.ValueKind == JsonValueKind.Undefined)
            {
                Flush(messages, ref step);
                var speaker = entry.Side == ItemSide.Input ? ChatRole.User : ChatRole.Assistant;
                messages.Add(new ChatMessage(speaker, Encoding.UTF8.GetString(entry.Text.Span)));
                continue;
            }

            switch (TypeOf(entry.Item))
            {
                case "message":
                    AddMessage(messages, ref step, entry);
                    break;
                case "reasoning":
                    if (step is { HasText: true } or { HasCalls: true })
                    {
                        Flush(messages, ref step);
                    }

                    if (Reasoning(entry) is { } reasoning)
                    {
                        (step ??= new Step()).Message.Contents.Add(reasoning);
                    }

                    break;
                case "function_call":
                    // Whose output was deleted can't be told: a provider takes no call without it.
                    if (outputs is not null && outputs.TryGetValue(i, out var output))
                    {
                        (step ??= new Step()).AddCall(Call(entry.Item, Text(entry.Item, "call_id")), OutputText(_entries[output]));
                    }

                    break;
                case "function_call_output":
                    // Told with its call. That may stand in the history, where the input is looked at alone: whether it can be told shows
                    // by itself.
                    if (entry.Field is not null)
                    {
                        _ = OutputText(entry);
                    }

                    Flush(messages, ref step);
                    break;
                case "mcp_call":
                    // It was run before the model went on.
                    (step ??= new Step()).AddCall(Call(entry.Item, $"mcp_{i}"), McpOutput(entry.Item));
                    Flush(messages, ref step);
                    break;
                case "mcp_list_tools":
                    // What there was to call; what there is now, the agent is told with the request.
                    break;
                case var type:
                    throw Refused(entry.Field, $"items of the type '{Error.Shorten(type)}' are not known to this agent");
            }
        }

        Flush(messages, ref step);
    }

    public void Dispose() => _documents.ForEach(document => document.Dispose());

    // Of each call, where its output is: the first one behind it that no other call has.
    private Dictionary<int, int> FindOutputs()
    {
        var outputs = new Dictionary<int, int>();
        List<(string CallId, int Index)> waiting = [];
        for (var i = 0; i < _entries.Count; i++)
        {
            if (_entries[i].Item.ValueKind == JsonValueKind.Undefined)
            {
                continue;
            }

            var type = TypeOf(_entries[i].Item);
            if (type == "function_call")
            {
                waiting.Add((Text(_entries[i].Item, "call_id"), i));
            }
            else if (type == "function_call_output"
                && waiting.FindIndex(call => call.CallId == Text(_entries[i].Item, "call_id")) is >= 0 and var found)
            {
                outputs[waiting[found].Index] = i;
                waiting.RemoveAt(found);
            }
        }

        return outputs;
    }

    private void AddMessage(List<ChatMessage> messages, ref Step? step, Entry entry)
    {
        var role = Text(entry.Item, "role");
        var contents = Contents(entry, role);
        if (role != "assistant")
        {
            Flush(messages, ref step);
            messages.Add(new ChatMessage(role switch
            {
                "system" => ChatRole.System,
                "developer" => new ChatRole("developer"),
                _ => ChatRole.User,
            }, contents));
            return;
        }

        if (step is { HasText: true } or { HasCalls: true })
        {
            Flush(messages, ref step);
        }

        (step ??= new Step()).AddText(contents);
    }

    private List<AIContent> Contents(Entry entry, string role)
    {
        if (!entry.Item.TryGetProperty("content", out var content))
        {
            return [];
        }

        if (content.ValueKind == JsonValueKind.String)
        {
            return [new TextContent(content.GetString())];
        }

        List<AIContent> contents = [];
        if (content.ValueKind == JsonValueKind.Array)
        {
            foreach (var part in content.EnumerateArray())
            {
                contents.Add(Content(part, role, entry.Field is null ? null : $"{entry.Field}.content[{contents.Count}]"));
            }
        }

        return contents;
    }

    private AIContent Content(JsonElement part, string role, string? field) => TypeOf(part) switch
    {
        "input_text" or "output_text" or "text" or "summary_text" => new TextContent(Text(part, "text")),
        "refusal" => Refusal(Text(part, "refusal"), role),
        "input_image" => InPlace(Image(part, field), role, field),
        "input_file" => InPlace(File(part, field), role, field),
        var type => throw Refused(field, $"parts of the type '{Error.Shorten(type)}' are not known to this agent"),
    };

    // Where there is no such thing, it is something that was said.
    private AIContent Refusal(string text, string role) =>
        role == "assistant" && agent.Provider is (AgentProvider.Openai or AgentProvider.Builtin)
            ? new ErrorContent(text) { ErrorCode = OutputBuilder.Refusal }
            : new TextContent(text);

    // Some messages have texts alone, by a provider's wire or its library: other content would be dropped on the way.
    private AIContent InPlace(AIContent content, string role, string? field)
    {
        var isTextAlone = (agent.Provider, agent.Api) switch
        {
            (AgentProvider.Openai, AgentApi.Responses) => role is "assistant" or "system" or "developer",
            (AgentProvider.Openai, _) => role == "assistant",
            (AgentProvider.Anthropic, _) => role is "system" or "developer",
            _ => false,
        };
        return isTextAlone ? throw Refused(field, $"this agent takes only texts in messages of the role '{role}'") : content;
    }

    private AIContent Image(JsonElement part, string? field)
    {
        if (!agent.Accepts.Contains(AgentContent.Image))
        {
            throw Refused(field, "this agent does not take images");
        }

        var url = Text(part, "image_url");
        var detail = Text(part, "detail");
        if (agent.Provider == AgentProvider.Ollama && !url.StartsWith("data:", StringComparison.OrdinalIgnoreCase))
        {
            throw Refused(field, "this agent takes images as data URLs alone: its provider fetches none");
        }

        AIContent image = url.StartsWith("data:", StringComparison.OrdinalIgnoreCase) ? Data(url, field)
            : Uri.TryCreate(url, UriKind.Absolute, out var uri) && uri.Scheme is "http" or "https" ? new UriContent(uri!, "image/*")
            : throw Refused(field, "an image must be given by image_url: an http or https address, or a data URL");
        if (detail.Length > 0)
        {
            image.AdditionalProperties = new() { ["detail"] = detail };
        }

        return image;
    }

    private DataContent File(JsonElement part, string? field)
    {
        if (!agent.Accepts.Contains(AgentContent.File))
        {
            throw Refused(field, "this agent does not take files");
        }

        var data = Text(part, "file_data");
        if (!data.StartsWith("data:", StringComparison.OrdinalIgnoreCase))
        {
            // Nothing is fetched by this server, and chat completions know no files by address.
            throw Refused(field, "a file must be given by file_data: a data URL; this agent takes none by file_url or file_id");
        }

        var file = Data(data, field);
        if (agent.Provider == AgentProvider.Anthropic && file.MediaType != "application/pdf")
        {
            throw Refused(field, "this agent takes files of the type application/pdf alone");
        }

        file.Name = Text(part, "filename") is { Length: > 0 } name ? name : "file";
        return file;
    }

    private static DataContent Data(string url, string? field)
    {
        try
        {
            var data = new DataContent(url);

            // Decoded when asked for: what is no base64 shows only then.
            _ = data.Data;
            return data;
        }
        catch (Exception e) when (e is ArgumentException or FormatException)
        {
            throw Refused(field, "is not a data URL with a media type");
        }
    }

    // Thoughts are given back where they are sealed; others are for people.
    private static TextReasoningContent? Reasoning(Entry entry)
    {
        var item = entry.Item;
        if (entry.IsForeign || Text(item, "encrypted_content") is not { Length: > 0 } sealedText)
        {
            return null;
        }

        var text = new StringBuilder();
        foreach (var name in (ReadOnlySpan<string>)["summary", "content"])
        {
            if (text.Length == 0 && item.TryGetProperty(name, out var parts) && parts.ValueKind == JsonValueKind.Array)
            {
                foreach (var part in parts.EnumerateArray())
                {
                    text.Append(Text(part, "text"));
                }
            }
        }

        return new TextReasoningContent(text.ToString()) { ProtectedData = sealedText };
    }

    // Its arguments as they were written, too: another model may have meant them as they are.
    private static FunctionCallContent Call(JsonElement item, string callId)
    {
        var arguments = Text(item, "arguments");
        return new FunctionCallContent(callId, Text(item, "name"), CallArguments.Parse(arguments))
        {
            RawRepresentation = new CallArguments(arguments),
        };
    }

    private static string OutputText(Entry entry)
    {
        if (!entry.Item.TryGetProperty("output", out var output))
        {
            return "";
        }

        if (output.ValueKind != JsonValueKind.Array)
        {
            return output.ValueKind == JsonValueKind.String ? output.GetString()! : output.GetRawText();
        }

        List<string> texts = [];
        foreach (var part in output.EnumerateArray())
        {
            texts.Add(TypeOf(part) is "input_text" or "output_text" or "text" ? Text(part, "text")
                : throw Refused(entry.Field is null ? null : $"{entry.Field}.output[{texts.Count}]",
                    "this agent takes only texts as the output of a function"));
        }

        return string.Join('\n', texts);
    }

    private static string McpOutput(JsonElement item) =>
        item.TryGetProperty("output", out var output) && output.ValueKind == JsonValueKind.String ? output.GetString()!
        : item.TryGetProperty("error", out var error) && error.ValueKind != JsonValueKind.Null
            ? error.ValueKind == JsonValueKind.String ? error.GetString()! : error.GetRawText()
        : "";

    // A message may leave its type out.
    private static string TypeOf(JsonElement element) =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty("type", out var type) && type.ValueKind == JsonValueKind.String
            ? type.GetString()!
            : "message";

    private static string Text(JsonElement element, string name) =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty(name, out var text) && text.ValueKind == JsonValueKind.String
            ? text.GetString()!
            : "";

    private static DomainException Refused(string? field, string rule) =>
        new(new Error("content_not_supported", $"{field ?? "history"}: {rule}.")
        {
            Field = field ?? "input",
            Rule = rule,
        });

    private static void Flush(List<ChatMessage> messages, ref Step? step)
    {
        step?.WriteTo(messages);
        step = null;
    }

    private readonly record struct Entry(ItemSide Side, ReadOnlyMemory<byte> Text, JsonElement Item, string? Field, bool IsForeign);

    // What an assistant said at one go.
    private sealed class Step
    {
        private List<AIContent>? _results;

        public ChatMessage Message { get; } = new(ChatRole.Assistant, []);

        public bool HasText { get; private set; }

        public bool HasCalls { get; private set; }

        public void AddText(List<AIContent> contents)
        {
            contents.ForEach(Message.Contents.Add);
            HasText = true;
        }

        public void AddCall(FunctionCallContent call, string output)
        {
            Message.Contents.Add(call);
            HasCalls = true;
            (_results ??= []).Add(new FunctionResultContent(call.CallId, output));
        }

        public void WriteTo(List<ChatMessage> messages)
        {
            // Thoughts belong to what came of them: where that is left out, no provider takes them alone.
            if (!HasText && !HasCalls)
            {
                return;
            }

            messages.Add(Message);
            if (_results is not null)
            {
                messages.Add(new ChatMessage(ChatRole.Tool, _results));
            }
        }
    }
}

/// <summary>The arguments of a call as they were written; with a call, as what it was made from.</summary>
/// <param name="Text">JSON, if the model wrote what it should.</param>
/// <param name="IsTold">Whether the call was told piece by piece already.</param>
internal sealed record CallArguments(string Text, bool IsTold = false)
{
    /// <summary>The arguments by name; <see langword="null"/> where they are not a JSON object.</summary>
    public static Dictionary<string, object?>? Parse(string text)
    {
        try
        {
            using var document = JsonDocument.Parse(text);
            return document.RootElement.ValueKind != JsonValueKind.Object ? null
                : document.RootElement.EnumerateObject().DistinctBy(argument => argument.Name)
                    .ToDictionary(argument => argument.Name, argument => (object?)argument.Value.Clone());
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            return null;
        }
    }
}
