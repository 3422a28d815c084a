using System.Text.Json.Nodes;
using Microsoft.Extensions.AI;
using Sessions.Client.Items;

namespace Sessions.Client.Chat;

/// <summary>A request for a response of a server's agent.</summary>
internal static class ResponseRequest
{
    public static JsonObject Create(
        IEnumerable<ChatMessage> messages, ChatOptions? options, JsonObject? raw, string? agentType, string conversation, bool stream)
    {
        var body = raw ?? [];
        body["conversation"] = conversation;
        body["input"] = new JsonArray([.. ItemWriter.Write(messages).Select(item => (JsonNode?)JsonObject.Create(item))]);
        if (stream)
        {
            body["stream"] = true;
        }

        Add(body, "model", options?.ModelId ?? agentType);
        if (options is null)
        {
            return body;
        }

        Add(body, "instructions", options.Instructions);
        Add(body, "temperature", options.Temperature);
        Add(body, "top_p", options.TopP);
        Add(body, "max_output_tokens", options.MaxOutputTokens);
        if (options.Tools is { Count: > 0 } tools)
        {
            Add(body, "tools", new JsonArray([.. tools.Select(tool => (JsonNode)Tool(tool))]));
            Add(body, "tool_choice", Choice(options.ToolMode));
            Add(body, "parallel_tool_calls", options.AllowMultipleToolCalls);
        }

        if (options.Reasoning?.Effort is { } effort)
        {
            Add(body, "reasoning", new JsonObject
            {
                ["effort"] = effort switch
                {
                    ReasoningEffort.None => "none",
                    ReasoningEffort.Low => "low",
                    ReasoningEffort.Medium => "medium",
                    ReasoningEffort.High => "high",
                    _ => "xhigh",
                },
            });
        }

        Add(body, "text", Format(options.ResponseFormat));
        return body;
    }

    // What the caller has put there by hand stays.
    private static void Add(JsonObject body, string name, JsonNode? value)
    {
        if (value is not null && body[name] is null)
        {
            body[name] = value;
        }
    }

    private static JsonObject Tool(AITool tool) => tool is AIFunctionDeclaration function
        ? new JsonObject
        {
            ["type"] = "function",
            ["name"] = function.Name,
            ["description"] = function.Description,
            ["parameters"] = JsonObject.Create(function.JsonSchema),
        }
        : throw new NotSupportedException(
            $"The tool '{tool.Name}' can't be passed on: the server's agents take functions only, and have tools of their own.");

    private static JsonNode? Choice(ChatToolMode? mode) => mode switch
    {
        NoneChatToolMode => "none",
        AutoChatToolMode => "auto",
        RequiredChatToolMode { RequiredFunctionName: { } name } => new JsonObject { ["type"] = "function", ["name"] = name },
        RequiredChatToolMode => "required",
        _ => null,
    };

    private static JsonObject? Format(ChatResponseFormat? format)
    {
        if (format is not ChatResponseFormatJson json)
        {
            return null;
        }

        var form = json.Schema is { } schema
            ? new JsonObject { ["type"] = "json_schema", ["name"] = json.SchemaName ?? "answer", ["schema"] = JsonObject.Create(schema) }
            : new JsonObject { ["type"] = "json_object" };
        if (json.SchemaDescription is { } description)
        {
            form["description"] = description;
        }

        return new JsonObject { ["format"] = form };
    }
}
