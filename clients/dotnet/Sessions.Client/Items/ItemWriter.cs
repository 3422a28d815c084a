using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.AI;
using Sessions.Client.Http;

namespace Sessions.Client.Items;

/// <summary>
/// Messages as items of OpenAI's Responses API, which is what the server keeps. What has no form there is kept beside an empty text, as
/// Microsoft.Extensions.AI writes it: nothing is left out but token counts, which are not said by anybody.
/// </summary>
internal static class ItemWriter
{
    /// <summary>Where a content that has no form of its own is kept.</summary>
    public const string AgentContent = "agent_content";

    /// <summary>Where the name of a message's author is kept.</summary>
    public const string AuthorName = "author_name";

    /// <summary>The items of messages, in order.</summary>
    public static List<JsonElement> Write(IEnumerable<ChatMessage> messages)
    {
        List<JsonElement> items = [];
        foreach (var message in messages)
        {
            Write(message, items);
        }

        return items;
    }

    /// <summary>The arguments of a call, as a text in JSON.</summary>
    public static string Arguments(FunctionCallContent call) =>
        call.Arguments is null ? "{}" : JsonSerializer.Serialize(call.Arguments,
            AIJsonUtilities.DefaultOptions.GetTypeInfo(typeof(IDictionary<string, object?>)));

    private static void Write(ChatMessage message, List<JsonElement> items)
    {
        // Parts that stand together are one message; what stands between them is an item of its own.
        JsonArray? parts = null;
        foreach (var content in message.Contents)
        {
            var item = content switch
            {
                FunctionCallContent call => new JsonObject
                {
                    ["type"] = "function_call",
                    ["call_id"] = call.CallId,
                    ["name"] = call.Name,
                    ["arguments"] = Arguments(call),
                },
                FunctionResultContent result => new JsonObject
                {
                    ["type"] = "function_call_output",
                    ["call_id"] = result.CallId,
                    ["output"] = Output(result),
                },
                TextReasoningContent reasoning => Reasoning(reasoning),
                _ => null,
            };
            if (item is not null)
            {
                Close(message, ref parts, items);
                Add(item, items);
            }
            else if (content is not UsageContent)
            {
                (parts ??= []).Add((JsonNode)Part(content, message.Role == ChatRole.Assistant ? "output_text" : "input_text"));
            }
        }

        Close(message, ref parts, items);
    }

    private static void Close(ChatMessage message, ref JsonArray? parts, List<JsonElement> items)
    {
        if (parts is null)
        {
            return;
        }

        var item = new JsonObject { ["type"] = "message", ["role"] = Role(message.Role), ["content"] = parts };
        if (message.AuthorName is { } author)
        {
            item[AuthorName] = author;
        }

        Add(item, items);
        parts = null;
    }

    private static void Add(JsonObject item, List<JsonElement> items) =>
        items.Add(JsonSerializer.SerializeToElement(item, SessionsJson.Default.JsonObject));

    // What a tool says beside its output is said to the model, like by the user.
    private static string Role(ChatRole role) =>
        role == ChatRole.Assistant ? "assistant" : role == ChatRole.System ? "system" : role.Value == "developer" ? "developer" : "user";

    private static JsonObject Part(AIContent content, string textType)
    {
        switch (content)
        {
            case TextContent { Annotations: null or { Count: 0 } } text:
                return new JsonObject { ["type"] = textType, ["text"] = text.Text };
            case TextContent cited:
                return new JsonObject { ["type"] = textType, ["text"] = cited.Text, [AgentContent] = Whole(cited) };
            case ErrorContent { ErrorCode: "Refusal" } refusal when textType == "output_text":
                return new JsonObject { ["type"] = "refusal", ["refusal"] = refusal.Message };
            case DataContent data when data.HasTopLevelMediaType("image"):
                return new JsonObject { ["type"] = "input_image", ["image_url"] = data.Uri };
            case DataContent data:
                return new JsonObject { ["type"] = "input_file", ["filename"] = data.Name ?? "file", ["file_data"] = data.Uri };
            case UriContent uri when uri.HasTopLevelMediaType("image"):
                return new JsonObject { ["type"] = "input_image", ["image_url"] = uri.Uri.AbsoluteUri, ["media_type"] = uri.MediaType };
            case UriContent uri:
                return new JsonObject { ["type"] = "input_file", ["file_url"] = uri.Uri.AbsoluteUri, ["media_type"] = uri.MediaType };
            default:
                return new JsonObject { ["type"] = textType, ["text"] = "", [AgentContent] = Whole(content) };
        }
    }

    private static JsonObject Reasoning(TextReasoningContent reasoning)
    {
        var item = new JsonObject { ["type"] = "reasoning", ["summary"] = new JsonArray() };
        if (reasoning.Text.Length > 0)
        {
            item["summary"]!.AsArray().Add((JsonNode)new JsonObject { ["type"] = "summary_text", ["text"] = reasoning.Text });
        }

        if (reasoning.ProtectedData is { } data)
        {
            item["encrypted_content"] = data;
        }

        return item;
    }

    private static JsonNode Output(FunctionResultContent result)
    {
        switch (result.Result)
        {
            case null:
                return result.Exception is null ? "" : $"Error: {result.Exception.Message}";
            case string text:
                return text;
            case JsonElement { ValueKind: JsonValueKind.String } text:
                return text.GetString()!;
            case AIContent content:
                return new JsonArray(Part(content, "input_text"));
            case IEnumerable<AIContent> contents:
                return new JsonArray([.. contents.Select(content => (JsonNode)Part(content, "input_text"))]);
            default:
                return JsonSerializer.Serialize(result.Result, AIJsonUtilities.DefaultOptions.GetTypeInfo(typeof(object)));
        }
    }

    private static JsonNode? Whole(AIContent content)
    {
        try
        {
            return JsonSerializer.SerializeToNode(content, AIJsonUtilities.DefaultOptions.GetTypeInfo(typeof(AIContent)));
        }
        catch (NotSupportedException e)
        {
            throw new NotSupportedException(
                $"A content of the type '{content.GetType()}' can't be kept, as Microsoft.Extensions.AI can't write it in JSON. "
                + "Filters of messages (SessionsChatHistoryProviderOptions) can leave it out.", e);
        }
    }
}
