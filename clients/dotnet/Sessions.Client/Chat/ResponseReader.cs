using System.Text.Json;
using Microsoft.Extensions.AI;
using Sessions.Client.Items;

namespace Sessions.Client.Chat;

/// <summary>A response of a server's agent, whole or in pieces.</summary>
internal sealed class ResponseReader(string conversation)
{
    private string? _responseId;
    private string? _model;
    private DateTimeOffset? _createdAt;

    /// <summary>A response that came whole.</summary>
    public static ChatResponse Read(JsonElement response, string conversation)
    {
        if (response.ValueKind != JsonValueKind.Object)
        {
            throw new SessionsException(SessionsException.InvalidResponse, "What answered is no response of an agent's.");
        }

        ThrowIfFailed(response);
        var items = response.TryGetProperty("output", out var output) && output.ValueKind == JsonValueKind.Array
            ? output.EnumerateArray() : default;
        var messages = ItemReader.Read(items);
        return new ChatResponse(messages)
        {
            ConversationId = conversation,
            CreatedAt = CreatedAt(response),
            FinishReason = FinishReason(response),
            ModelId = ItemReader.Text(response, "model"),
            RawRepresentation = response,
            ResponseId = ItemReader.Text(response, "id"),
            Usage = Usage(response),
        };
    }

    /// <summary>What an event of a stream says, if it is of any concern.</summary>
    /// <param name="type">Its type.</param>
    /// <param name="data">Its data.</param>
    /// <param name="isLast">Whether the response is whole with it.</param>
    public IEnumerable<ChatResponseUpdate> Read(string type, JsonElement data, out bool isLast)
    {
        isLast = type is "response.completed" or "response.incomplete";
        switch (type)
        {
            case "response.created":
                var begun = data.GetProperty("response");
                (_responseId, _model, _createdAt) = (ItemReader.Text(begun, "id"), ItemReader.Text(begun, "model"), CreatedAt(begun));
                return [Update(ChatRole.Assistant, null, [])];
            case "response.output_text.delta":
                return [Update(ChatRole.Assistant, ItemReader.Text(data, "item_id"), [new TextContent(ItemReader.Text(data, "delta"))])];
            case "response.output_item.done":
                // The texts have been told already.
                return ItemReader.Read([data.GetProperty("item")]).Select(message => Update(
                    message.Role, message.MessageId, [.. message.Contents.Where(content => content is not TextContent)]))
                        .Where(update => update.Contents.Count > 0);
            case "response.completed" or "response.incomplete":
                var response = data.GetProperty("response");
                var last = Update(ChatRole.Assistant, null, Usage(response) is { } usage ? [new UsageContent(usage)] : []);
                last.FinishReason = FinishReason(response);
                return [last];
            case "error":
                throw Failure(data);
            case "response.failed":
                ThrowIfFailed(data.GetProperty("response"));
                return [];
            default:
                return [];
        }
    }

    private ChatResponseUpdate Update(ChatRole role, string? messageId, List<AIContent> contents) => new(role, contents)
    {
        ConversationId = conversation,
        CreatedAt = _createdAt,
        MessageId = messageId,
        ModelId = _model,
        ResponseId = _responseId,
    };

    private static void ThrowIfFailed(JsonElement response)
    {
        if (ItemReader.Text(response, "status") == "failed")
        {
            throw Failure(response.TryGetProperty("error", out var error) ? error : default);
        }
    }

    private static SessionsException Failure(JsonElement error) =>
        new(ItemReader.Text(error, "code") ?? "server_error", ItemReader.Text(error, "message") ?? "The agent could not answer.")
        {
            Field = ItemReader.Text(error, "param"),
        };

    private static DateTimeOffset? CreatedAt(JsonElement response) =>
        response.TryGetProperty("created_at", out var at) && at.TryGetInt64(out var seconds)
            ? DateTimeOffset.FromUnixTimeSeconds(seconds) : null;

    private static ChatFinishReason FinishReason(JsonElement response)
    {
        if (response.TryGetProperty("incomplete_details", out var details) && details.ValueKind == JsonValueKind.Object)
        {
            return ItemReader.Text(details, "reason") switch
            {
                "max_output_tokens" => ChatFinishReason.Length,
                "content_filter" => ChatFinishReason.ContentFilter,
                { } reason => new ChatFinishReason(reason),
                null => ChatFinishReason.Stop,
            };
        }

        return response.TryGetProperty("output", out var output) && output.ValueKind == JsonValueKind.Array
            && output.EnumerateArray().Any(item => ItemReader.Text(item, "type") == "function_call") ? ChatFinishReason.ToolCalls
                : ChatFinishReason.Stop;
    }

    private static UsageDetails? Usage(JsonElement response)
    {
        if (!response.TryGetProperty("usage", out var usage) || usage.ValueKind != JsonValueKind.Object)
        {
            return null;
        }

        return new UsageDetails
        {
            InputTokenCount = Count(usage, "input_tokens"),
            OutputTokenCount = Count(usage, "output_tokens"),
            TotalTokenCount = Count(usage, "total_tokens"),
            CachedInputTokenCount = usage.TryGetProperty("input_tokens_details", out var input) ? Count(input, "cached_tokens") : null,
            ReasoningTokenCount = usage.TryGetProperty("output_tokens_details", out var output) ? Count(output, "reasoning_tokens") : null,
        };
    }

    private static long? Count(JsonElement counts, string name) =>
        counts.ValueKind == JsonValueKind.Object && counts.TryGetProperty(name, out var value) && value.TryGetInt64(out var count)
            ? count : null;
}
