using Microsoft.Extensions.AI;

namespace Sessions.Api.Engine.Agents;

/// <summary>What a request asks for beside <see cref="ChatOptions"/>, in the terms that libraries of providers know.</summary>
internal static class StandardOptions
{
    /// <summary>What was asked for.</summary>
    public static AnswerOptions Asked(ChatOptions? options) =>
        options?.AdditionalProperties?.TryGetValue(AgentOptions.Key, out var value) == true && value is AnswerOptions asked
            ? asked : AnswerOptions.None;

    /// <summary>The options, with the form of the answer and the effort among them.</summary>
    public static ChatOptions Of(ChatOptions? options)
    {
        var asked = Asked(options);
        var standard = options?.Clone() ?? new ChatOptions();
        standard.AdditionalProperties = null;
        standard.ResponseFormat = asked.Format switch
        {
            { Type: "json_schema", Schema: { } schema } format => ChatResponseFormat.ForJsonSchema(schema, format.Name, format.Description),
            { Type: "json_object" } => ChatResponseFormat.Json,
            _ => null,
        };
        if (asked.Format?.Strict is { } strict)
        {
            standard.AdditionalProperties = new() { ["strict"] = strict };
        }

        standard.Reasoning = asked.ReasoningEffort switch
        {
            "none" => new ReasoningOptions { Effort = ReasoningEffort.None },
            "minimal" or "low" => new ReasoningOptions { Effort = ReasoningEffort.Low },
            "medium" => new ReasoningOptions { Effort = ReasoningEffort.Medium },
            "high" => new ReasoningOptions { Effort = ReasoningEffort.High },
            "xhigh" or "max" => new ReasoningOptions { Effort = ReasoningEffort.ExtraHigh },
            _ => null,
        };
        return standard;
    }
}
