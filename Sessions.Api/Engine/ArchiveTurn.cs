using System.Globalization;
using Sessions.Api.Domain;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <summary>A turn, in the API's own words: what it shows of a turn, and behind that what else there is.</summary>
internal sealed record ArchiveTurn
{
    /// <summary>Its number.</summary>
    public int? Turn { get; init; }

    /// <summary>Its number, as the version before named it in the export of a store.</summary>
    public int? Number { get; init; }

    /// <summary>What was asked, in words.</summary>
    public Utf8Text? Query { get; init; }

    /// <summary>What was answered, in words.</summary>
    public Utf8Text? Response { get; init; }

    public required string AgentType { get; init; }

    public required string AgentUsed { get; init; }

    public required ApiTime CreatedAt { get; init; }

    /// <summary>In seconds.</summary>
    public ApiSeconds? ExecutionTime { get; init; }

    /// <summary>As the version before wrote it in the export of a store.</summary>
    public long? ExecutionMicroseconds { get; init; }

    public ArchiveUsage? Usage { get; init; }

    /// <inheritdoc cref="ExecutionMicroseconds"/>
    public long? InputTokens { get; init; }

    /// <inheritdoc cref="ExecutionMicroseconds"/>
    public long? OutputTokens { get; init; }

    /// <summary>What became of it, unless it was completed.</summary>
    public string? Status { get; init; }

    public string? IncompleteReason { get; init; }

    public string? FinishReason { get; init; }

    public string? Model { get; init; }

    /// <summary>What came in, where that is more than one text.</summary>
    public RawJson? Input { get; init; }

    /// <summary>What came out, where that is more than one text.</summary>
    public RawJson? Output { get; init; }

    /// <summary>Of a turn made under <c>/v1</c>: its Response, without id and output.</summary>
    public RawJson? ResponseObject { get; init; }

    /// <summary>The turn it continues, where that is not the one before.</summary>
    public int? Parent { get; init; }

    /// <summary>What its ids are made of, in hexadecimal digits.</summary>
    public string? Nonce { get; init; }

    public int? HistoryTokens { get; init; }

    public bool? StartedSession { get; init; }

    public ArchiveKey? Idempotency { get; init; }

    public static ArchiveTurn From(ArchivedTurn archived)
    {
        var turn = archived.Turn;
        return new()
        {
            Turn = turn.Number,
            Query = turn.Input.TextOf(ItemSide.Input),
            Response = turn.Output.TextOf(ItemSide.Output),
            AgentType = turn.AgentType,
            AgentUsed = turn.AgentUsed,
            CreatedAt = turn.CreatedAt,
            ExecutionTime = turn.ExecutionTime,
            Usage = turn.Usage is { } usage ? new(usage.InputTokens, usage.OutputTokens, usage.CachedInputTokens, usage.ReasoningTokens)
                : null,
            Status = turn.Status == TurnStatus.Completed ? null : turn.Status.Name(),
            IncompleteReason = turn.IncompleteReason,
            FinishReason = turn.FinishReason,
            Model = turn.Model,
            Input = turn.Input.Form == ItemsForm.Json ? RawJson.Of(turn.Input.Bytes) : null,
            Output = turn.Output.Form == ItemsForm.Json ? RawJson.Of(turn.Output.Bytes) : null,
            ResponseObject = RawJson.Of(turn.Response),
            Parent = turn.Parent == turn.Number - 1 ? null : turn.Parent,
            Nonce = turn.Nonce == TurnNonce.OfNumber(turn.Number) ? null : turn.Nonce.Value.ToString("x16", CultureInfo.InvariantCulture),
            HistoryTokens = turn.HistoryTokens,
            StartedSession = turn.StartedSession ? true : null,
            Idempotency = ArchiveKey.From(archived.AnsweredTo),
        };
    }

    /// <summary>The turn that an export wrote.</summary>
    /// <param name="last">The one before it.</param>
    /// <exception cref="InvalidDataException">It wrote none such.</exception>
    public ArchivedTurn ToTurn(Turn? last)
    {
        var number = Turn ?? Number ?? 0;
        var parent = Parent ?? number - 1;
        if (number != (last?.Number ?? 0) + 1 || parent < 0 || parent >= number)
        {
            throw new InvalidDataException($"Turn {number} is not one that an export wrote at this place.");
        }

        return new(new Turn
        {
            Number = number,
            Parent = parent,
            RunStart = Domain.Turn.RunStartOf(number, parent, last?.RunStart ?? 0),
            Nonce = Nonce is null ? TurnNonce.OfNumber(number) : NonceOf(Nonce),
            Status = Status is null ? TurnStatus.Completed : TurnStatuses.Parse(Status),
            IncompleteReason = IncompleteReason,
            Input = ItemsOf(Input, Query),
            Output = ItemsOf(Output, Response),
            AgentType = AgentType,
            AgentUsed = AgentUsed,
            Model = Model,
            FinishReason = FinishReason,
            CreatedAt = Timestamps.FromMicroseconds(CreatedAt.Value.ToMicroseconds()),
            ExecutionTime = ExecutionMicroseconds is { } microseconds ? TimeSpan.FromMicroseconds(microseconds)
                : ExecutionTime?.Value ?? TimeSpan.Zero,
            Usage = Usage is { } usage ? new TokenUsage(usage.InputTokens, usage.OutputTokens, usage.CachedInputTokens,
                usage.ReasoningTokens)
                : InputTokens is not null || OutputTokens is not null ? new TokenUsage(InputTokens, OutputTokens)
                : null,
            HistoryTokens = HistoryTokens,

            // An export of a user did not tell: a session's first turn mostly did.
            StartedSession = StartedSession ?? false,
            Response = ResponseObject is not { } response ? default : StoredJson.IsObject(response.Bytes.Span) ? response.Bytes
                : throw new InvalidDataException("The response of a turn is not an object that can be read."),
        }, ArchiveKey.To(Idempotency));
    }

    private static TurnNonce NonceOf(string text) =>
        TurnNonce.TryParse(text, out var nonce) ? nonce
            : throw new InvalidDataException($"'{Error.Shorten(text)}' is not a nonce.");

    private static Items ItemsOf(RawJson? items, Utf8Text? text) =>
        items is { } array ? StoredJson.IsItems(array.Bytes.Span) ? Items.OfJson(array.Bytes)
            : throw new InvalidDataException("The items of a turn are not an array of objects that can be read.")
        : text is { } said ? Items.OfText(said)
        : Items.None;
}
