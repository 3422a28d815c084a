using System.Buffers;
using System.Text.Json;
using Microsoft.Extensions.AI;
using Sessions.Api.Engine.Agents.Tools;

namespace Sessions.Api.Engine.Agents;

/// <summary>How an agent is to answer, in the terms of Microsoft.Extensions.AI.</summary>
internal static class AgentOptions
{
    /// <summary>Under this name an <see cref="AnswerOptions"/> goes with the options, for what they have no name for.</summary>
    public const string Key = "sessions.options";

    private const int MaxNameLength = 64;

    private static readonly SearchValues<char> NameCharacters = SearchValues.Create(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");

    /// <summary>Whether a parameter of that name can be passed on: letters, digits and underscores.</summary>
    public static bool IsParameter(string name) =>
        name.Length is > 0 and <= MaxNameLength && !name.AsSpan().ContainsAnyExcept(NameCharacters);

    /// <summary>Translates.</summary>
    /// <param name="request">What the agent is asked.</param>
    /// <param name="tools">The tools that are run here, if there are any.</param>
    public static ChatOptions Make(AgentRequest request, ToolRun? tools)
    {
        var options = request.Options;
        return new ChatOptions
        {
            ConversationId = request.SessionId,
            Temperature = options.Temperature,
            TopP = options.TopP,
            MaxOutputTokens = options.MaxOutputTokens,
            FrequencyPenalty = options.FrequencyPenalty,
            PresencePenalty = options.PresencePenalty,
            Seed = options.Seed,
            StopSequences = options.Stop?.ToList(),
            Tools = options.Tools.Count == 0 && tools is null
                ? null
                : [.. tools?.Functions ?? [], .. options.Tools.Select(tool => new ClientFunction(tool))],
            ToolMode = options.ToolChoice switch
            {
                null => null,
                "auto" => ChatToolMode.Auto,
                "none" => ChatToolMode.None,
                "required" => ChatToolMode.RequireAny,
                var name => ChatToolMode.RequireSpecific(name["function:".Length..]),
            },
            AllowMultipleToolCalls = options.ParallelToolCalls,
            AdditionalProperties = ReferenceEquals(options, AnswerOptions.None) ? null : new() { [Key] = options },
        };
    }
}

/// <summary>A function of a client's: declared to the model, and run by nobody here.</summary>
internal sealed class ClientFunction(FunctionTool tool) : AIFunctionDeclaration
{
    public override string Name => tool.Name;

    public override string Description => tool.Description ?? "";

    public override JsonElement JsonSchema => tool.Parameters ?? base.JsonSchema;

    /// <summary>Whether it has any parameters.</summary>
    public bool HasParameters => tool.Parameters is not null;

    /// <summary>Whether arguments must hold to the schema.</summary>
    public bool? Strict => tool.Strict;

    public override IReadOnlyDictionary<string, object?> AdditionalProperties =>
        tool.Strict is { } strict ? new Dictionary<string, object?> { ["strict"] = strict } : base.AdditionalProperties;
}

/// <summary>Arguments of calls in JSON.</summary>
internal static class CallJson
{
    private static readonly JsonSerializerOptions Compact = new(AIJsonUtilities.DefaultOptions) { WriteIndented = false };

    /// <summary>Writes arguments that a library gives by name.</summary>
    public static string Write(IDictionary<string, object?>? arguments) =>
        arguments is null ? "{}" : JsonSerializer.Serialize(arguments, Compact.GetTypeInfo(typeof(IDictionary<string, object?>)));
}
