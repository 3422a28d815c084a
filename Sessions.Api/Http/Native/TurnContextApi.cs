using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Http.Auth;

namespace Sessions.Api.Http.Native;

/// <summary><c>GET /sessions/{session_id}/turns/{turn}/context</c>: what a turn's agent was given.</summary>
internal static class TurnContextApi
{
    /// <summary>Maps the endpoint.</summary>
    public static void MapTurnContext(this RouteGroupBuilder sessions) => sessions.MapGet("/{session_id}/turns/{turn}/context", GetAsync)
        .WithName("getTurnContext")
        .WithSummary("Tell what a turn's agent was given")
        .WithDescription(
            "Which earlier turns, which summary, which tools. Nothing of it is stored twice: it is put together again in the way it was "
            + "for the turn, by the agent's settings of today.")
        .Problems(StatusCodes.Status404NotFound, StatusCodes.Status422UnprocessableEntity);

    private static async Task<Results<JsonAnswer<TurnContextResponse>, Problem>> GetAsync(
        [FromRoute(Name = "session_id")] string sessionId, [FromRoute(Name = "turn")] string turn, SessionOwner owner,
        TurnContexts contexts, SessionLog log, CancellationToken cancellationToken)
    {
        if (!int.TryParse(turn, NumberStyles.None, CultureInfo.InvariantCulture, out var number) || number < 1)
        {
            throw new DomainException(Error.InvalidField("turn", "must be the number of a turn"));
        }

        return Identifiers.IsSessionId(sessionId)
            && await contexts.FindAsync(await log.RefOfAsync(sessionId, cancellationToken), owner.Value, number, cancellationToken)
                is { } found
            ? new JsonAnswer<TurnContextResponse>(TurnContextResponse.From(found))
            : Problem.From(Error.SessionNotFound(sessionId));
    }
}

/// <summary>What a turn's agent was given.</summary>
internal sealed record TurnContextResponse
{
    /// <summary>The session.</summary>
    public required string SessionId { get; init; }

    /// <summary>The turn.</summary>
    public required int Turn { get; init; }

    /// <summary>The agent that was asked for.</summary>
    public required string AgentType { get; init; }

    /// <summary>Whether it can be told: an agent ran here, and is configured still.</summary>
    public required bool IsKnown { get; init; }

    /// <summary>The numbers of the earlier turns that the agent was given, oldest first.</summary>
    public required IReadOnlyList<int> Turns { get; init; }

    /// <summary>What these take together, in bytes.</summary>
    public required long Bytes { get; init; }

    /// <summary>What the turns before these amount to, if the agent was given that.</summary>
    public required SummaryResponse? Summary { get; init; }

    /// <summary>Whether the agent has instructions of its operator's, which are not told.</summary>
    public required bool HasInstructions { get; init; }

    /// <summary>The instructions that came with the request, under /v1.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Instructions { get; init; }

    /// <summary>The names of the tools that came with the request, under /v1.</summary>
    public required IReadOnlyList<string> Tools { get; init; }

    /// <summary>It, as the API shows it.</summary>
    public static TurnContextResponse From(TurnContext context)
    {
        var (instructions, tools) = ReadRequest(context.Turn.Response);
        return new TurnContextResponse
        {
            SessionId = context.SessionId,
            Turn = context.Turn.Number,
            AgentType = context.Turn.AgentType,
            IsKnown = context.Window is not null,
            Turns = [.. context.Window?.Turns.Select(turn => turn.Number) ?? []],
            Bytes = context.Window?.Turns.Sum(turn => (long)turn.Input.Length + turn.Output.Length) ?? 0,
            Summary = context.Window?.Summary is { } summary ? new SummaryResponse(summary.Text, summary.CoversTurns) : null,
            HasInstructions = context.Window?.HasInstructions ?? false,
            Instructions = instructions,
            Tools = tools,
        };
    }

    // A response keeps what it was asked with.
    private static (string? Instructions, IReadOnlyList<string> Tools) ReadRequest(ReadOnlyMemory<byte> response)
    {
        if (response.IsEmpty)
        {
            return (null, []);
        }

        using var document = JsonDocument.Parse(response);
        var root = document.RootElement;
        List<string> tools = [];
        if (root.TryGetProperty("tools", out var all) && all.ValueKind == JsonValueKind.Array)
        {
            foreach (var tool in all.EnumerateArray())
            {
                tools.Add(NameOf(tool));
            }
        }

        var hasInstructions = root.TryGetProperty("instructions", out var said) && said.ValueKind == JsonValueKind.String;
        return (hasInstructions ? said.GetString() : null, tools);
    }

    // A function by its name, anything else by what it is.
    private static string NameOf(JsonElement tool) =>
        tool.TryGetProperty("name", out var name) && name.ValueKind == JsonValueKind.String ? name.GetString()!
        : tool.TryGetProperty("type", out var type) && type.ValueKind == JsonValueKind.String ? type.GetString()! : "";
}

/// <summary>What the turns up to one of them amount to.</summary>
/// <param name="Text">In words.</param>
/// <param name="CoversTurns">The last turn that it covers.</param>
internal sealed record SummaryResponse(Utf8Text Text, int CoversTurns);
