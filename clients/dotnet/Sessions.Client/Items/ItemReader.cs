using System.Text.Json;
using Microsoft.Extensions.AI;

namespace Sessions.Client.Items;

/// <summary>
/// Items as messages. What the model said in one go is one message, as providers ask for it: its calls stand together, before all of
/// their outputs.
/// </summary>
internal sealed class ItemReader
{
    private readonly List<ChatMessage> _messages = [];
    private readonly DateTimeOffset? _createdAt;
    private ChatMessage? _open;

    private ItemReader(DateTimeOffset? createdAt) => _createdAt = createdAt;

    /// <summary>The messages of items, in order.</summary>
    public static List<ChatMessage> Read(IEnumerable<JsonElement> items, DateTimeOffset? createdAt = null)
    {
        var reader = new ItemReader(createdAt);
        foreach (var item in items)
        {
            reader.Add(item);
        }

        return reader._messages;
    }

    /// <summary>A call, with its arguments read.</summary>
    public static FunctionCallContent Call(JsonElement item) => FunctionCallContent.CreateFromParsedArguments(
        Text(item, "arguments") ?? "{}", Text(item, "call_id") ?? Text(item, "id") ?? "", Text(item, "name") ?? "",
        ParseArguments);

    /// <summary>A reasoning.</summary>
    public static TextReasoningContent Reasoning(JsonElement item) =>
        new(Texts(item, "summary") is { Length: > 0 } summary ? summary : Texts(item, "content"))
        {
            ProtectedData = Text(item, "encrypted_content"),
        };

    // A part of a message; null where there is nothing in it that could be read.
    private static AIContent? Part(JsonElement part)
    {
        var isWhole = part.TryGetProperty(ItemWriter.AgentContent, out var whole);
        if (isWhole && Whole(whole) is { } content)
        {
            return content;
        }

        return Text(part, "type") switch
        {
            _ when isWhole && Text(part, "text") is "" => null,
            "refusal" => new ErrorContent(Text(part, "refusal")) { ErrorCode = "Refusal" },
            "input_image" when Text(part, "image_url") is { } url => File(url, Text(part, "media_type") ?? "image/*", name: null),
            "input_file" when Text(part, "file_data") is { } data => File(data, "application/octet-stream", Text(part, "filename")),
            "input_file" when Text(part, "file_url") is { } url =>
                File(url, Text(part, "media_type") ?? "application/octet-stream", name: null),
            _ => new TextContent(Text(part, "text")),
        };
    }

    // Another client, or one with a later version of the library, may have stored what is not known here: that must not make the
    // conversation unreadable.
    private static AIContent? Whole(JsonElement content)
    {
        try
        {
            return (AIContent?)content.Deserialize(AIJsonUtilities.DefaultOptions.GetTypeInfo(typeof(AIContent)));
        }
        catch (Exception e) when (e is JsonException or NotSupportedException or ArgumentException or FormatException)
        {
            return null;
        }
    }

    private static IDictionary<string, object?>? ParseArguments(string json) => json.Length == 0 ? null
        : (IDictionary<string, object?>?)JsonSerializer.Deserialize(json,
            AIJsonUtilities.DefaultOptions.GetTypeInfo(typeof(IDictionary<string, object?>)));

    private void Add(JsonElement item)
    {
        switch (Text(item, "type"))
        {
            case "message":
                AddMessage(item);
                break;
            case "function_call":
                Assistant(item).Contents.Add(Call(item));
                break;
            case "function_call_output":
                Tool(item).Contents.Add(new FunctionResultContent(Text(item, "call_id") ?? "", Output(item)));
                break;
            case "reasoning":
                Assistant(item, startsAnew: IsSaid).Contents.Add(Reasoning(item));
                break;
            case "mcp_call":
                // A tool of the server's: a model is told of it like of any other.
                var id = Text(item, "id") ?? Guid.NewGuid().ToString("N");
                var call = FunctionCallContent.CreateFromParsedArguments(Text(item, "arguments") ?? "{}", id, Text(item, "name") ?? "",
                    ParseArguments);
                call.InformationalOnly = true;
                Assistant(item).Contents.Add(call);
                Tool(item).Contents.Add(new FunctionResultContent(id, Text(item, "output") ?? Text(item, "error") ?? ""));
                break;
        }
    }

    private void AddMessage(JsonElement item)
    {
        var role = Text(item, "role") switch
        {
            "assistant" => ChatRole.Assistant,
            "system" => ChatRole.System,
            "user" or null => ChatRole.User,
            { } other => new ChatRole(other),
        };
        var message = role == ChatRole.Assistant ? Assistant(item, startsAnew: IsSaid) : Start(role, item);
        message.AuthorName ??= Text(item, ItemWriter.AuthorName);
        if (item.TryGetProperty("content", out var content))
        {
            if (content.ValueKind == JsonValueKind.Array)
            {
                foreach (var part in content.EnumerateArray().Select(Part).OfType<AIContent>())
                {
                    message.Contents.Add(part);
                }
            }
            else if (content.ValueKind == JsonValueKind.String)
            {
                message.Contents.Add(new TextContent(content.GetString()));
            }
        }
    }

    // A message that is whole: another one follows it. Beside calls a message is part of what they came with.
    private bool IsSaid => _open is { } open && open.Contents.Any(content => content is not TextReasoningContent)
        && !open.Contents.Any(content => content is FunctionCallContent);

    private ChatMessage Assistant(JsonElement item, bool startsAnew = false) =>
        !startsAnew && _open?.Role == ChatRole.Assistant ? _open : Start(ChatRole.Assistant, item);

    private ChatMessage Tool(JsonElement item) => _open?.Role == ChatRole.Tool ? _open : Start(ChatRole.Tool, item);

    private ChatMessage Start(ChatRole role, JsonElement item)
    {
        _open = new ChatMessage(role, []) { MessageId = Text(item, "id"), CreatedAt = _createdAt };
        _messages.Add(_open);
        return _open;
    }

    private static object Output(JsonElement item)
    {
        if (!item.TryGetProperty("output", out var output))
        {
            return "";
        }

        return output.ValueKind == JsonValueKind.Array ? output.EnumerateArray().Select(Part).OfType<AIContent>().ToList()
            : output.GetString() ?? "";
    }

    private static AIContent File(string url, string mediaType, string? name)
    {
        try
        {
            return url.StartsWith("data:", StringComparison.OrdinalIgnoreCase) ? new DataContent(url) { Name = name }
                : Uri.TryCreate(url, UriKind.Absolute, out var address) ? new UriContent(address, mediaType)
                : new TextContent(url);
        }
        catch (Exception e) when (e is UriFormatException or ArgumentException)
        {
            // The same of what is no data URL, or no media type.
            return new TextContent(url);
        }
    }

    private static string Texts(JsonElement item, string property) => item.TryGetProperty(property, out var parts)
        && parts.ValueKind == JsonValueKind.Array
        ? string.Join('\n', parts.EnumerateArray().Select(part => Text(part, "text")).Where(text => text is not null)) : "";

    internal static string? Text(JsonElement element, string property) =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty(property, out var value)
            && value.ValueKind == JsonValueKind.String ? value.GetString() : null;
}
