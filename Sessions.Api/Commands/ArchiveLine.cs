using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Sessions.Api;

/// <summary>A line of an export: one of these.</summary>
internal sealed record ArchiveLine
{
    public ArchiveSession? Session { get; init; }

    public ArchiveTurn? Turn { get; init; }

    public ArchiveEnd? End { get; init; }

    public static ArchiveLine From(ArchiveEntry entry) => new()
    {
        Session = entry.Session is { } session ? ArchiveSession.From(session) : null,
        Turn = entry.Turn is { } turn ? ArchiveTurn.From(turn) : null,
    };
}

/// <summary>The last line: how many sessions and turns came before it, so that a file which was cut off is known for one.</summary>
internal sealed record ArchiveEnd(long Sessions, long Turns);

/// <summary>An idempotency key and the request it came with, both as hashes.</summary>
internal sealed record ArchiveKey(Guid Key, Guid Body)
{
    public static ArchiveKey? From(Idempotency? idempotency) => idempotency is { } given ? new(given.Key, given.Body) : null;

    public static Idempotency? To(ArchiveKey? key) => key is null ? null : new Idempotency(key.Key, key.Body);
}

/// <summary>What the first turns of a session amount to.</summary>
internal sealed record ArchiveSummary(Utf8Text Text, int CoversTurns);

/// <summary>A session, but for its turns.</summary>
internal sealed record ArchiveSession
{
    public required string SessionId { get; init; }

    public string? UserId { get; init; }

    public required DateTimeOffset CreatedAt { get; init; }

    public required string CreatedFrom { get; init; }

    public required DateTimeOffset LastActivityAt { get; init; }

    public required DateTimeOffset ExpiresAt { get; init; }

    public required long Version { get; init; }

    public JsonElement? Metadata { get; init; }

    public required int Turns { get; init; }

    public int ErrorCount { get; init; }

    public string? LastError { get; init; }

    public ArchiveSummary? Summary { get; init; }

    public ArchiveKey? Idempotency { get; init; }

    public static ArchiveSession From(ArchivedSession archived)
    {
        var session = archived.Session;
        return new()
        {
            SessionId = session.Id,
            UserId = session.UserId,
            CreatedAt = session.CreatedAt,
            CreatedFrom = SessionMetadata.Name(session.CreatedFrom),
            LastActivityAt = session.LastActivityAt,
            ExpiresAt = session.ExpiresAt,
            Version = session.Version,
            Metadata = session.Metadata.IsEmpty ? null : JsonElement.Parse(session.Metadata.Span),
            Turns = session.TurnCount,
            ErrorCount = session.ErrorCount,
            LastError = session.LastError,
            Summary = session.Summary is { } summary ? new ArchiveSummary(summary.Text, summary.CoversTurns) : null,
            Idempotency = ArchiveKey.From(archived.CreatedBy),
        };
    }

    // An id that the API would refuse could never be asked for, or removed, again.
    public ArchivedSession ToSession() => !Identifiers.IsSessionId(SessionId) || (UserId is not null && !Identifiers.IsUserId(UserId)) || Metadata is { ValueKind: not JsonValueKind.Object } || Turns < 0
        ? throw new InvalidDataException($"Session '{SessionId}' is not one that an export wrote.")
        : new(new Session
        {
            Id = SessionId,
            UserId = UserId,
            CreatedAt = CreatedAt,
            CreatedFrom = SessionMetadata.Origin(CreatedFrom),
            LastActivityAt = LastActivityAt,
            ExpiresAt = ExpiresAt,
            Version = Version,
            Metadata = Metadata is { } metadata ? Encoding.UTF8.GetBytes(metadata.GetRawText()) : default,
            TurnCount = Turns,
            ErrorCount = ErrorCount,
            LastError = LastError,
            Summary = Summary is null ? null : new Summary(Summary.Text, Summary.CoversTurns),
        }, ArchiveKey.To(Idempotency));
}

/// <summary>A turn.</summary>
internal sealed record ArchiveTurn
{
    public required int Number { get; init; }

    public required Utf8Text Query { get; init; }

    public required Utf8Text Response { get; init; }

    public required string AgentType { get; init; }

    public required string AgentUsed { get; init; }

    public required DateTimeOffset CreatedAt { get; init; }

    public required long ExecutionMicroseconds { get; init; }

    public long? InputTokens { get; init; }

    public long? OutputTokens { get; init; }

    public bool StartedSession { get; init; }

    public ArchiveKey? Idempotency { get; init; }

    public static ArchiveTurn From(ArchivedTurn archived)
    {
        var turn = archived.Turn;
        return new()
        {
            Number = turn.Number,
            Query = turn.Query,
            Response = turn.Response,
            AgentType = turn.AgentType,
            AgentUsed = turn.AgentUsed,
            CreatedAt = turn.CreatedAt,
            ExecutionMicroseconds = (long)turn.ExecutionTime.TotalMicroseconds,
            InputTokens = turn.InputTokens,
            OutputTokens = turn.OutputTokens,
            StartedSession = turn.StartedSession,
            Idempotency = ArchiveKey.From(archived.AnsweredTo),
        };
    }

    public ArchivedTurn ToTurn() => new(new Turn
    {
        Number = Number,
        Query = Query,
        Response = Response,
        AgentType = AgentType,
        AgentUsed = AgentUsed,
        CreatedAt = CreatedAt,
        ExecutionTime = TimeSpan.FromMicroseconds(ExecutionMicroseconds),
        InputTokens = InputTokens,
        OutputTokens = OutputTokens,
        StartedSession = StartedSession,
    }, ArchiveKey.To(Idempotency));
}

/// <summary>The lines of an export, one after the other.</summary>
internal sealed class ArchiveReader(Stream input) : IDisposable
{
    private readonly StreamReader _lines = new(input);
    private ArchiveLine? _next;

    /// <summary>The number of the last line that was read.</summary>
    public long Number { get; private set; }

    /// <summary>The next line, which stays the next one until it is taken; <see langword="null"/> at the end.</summary>
    public async ValueTask<ArchiveLine?> NextAsync(CancellationToken cancellationToken)
    {
        if (_next is not null || await _lines.ReadLineAsync(cancellationToken) is not { } line)
        {
            return _next;
        }

        Number++;
        try
        {
            return _next = JsonSerializer.Deserialize(line, ArchiveJson.Lines.ArchiveLine) ?? throw new JsonException("null");
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"Line {Number} is not one that an export wrote: {e.Message}");
        }
    }

    /// <summary>Takes the line.</summary>
    public void Take() => _next = null;

    public void Dispose() => _lines.Dispose();
}

/// <summary>The JSON of an export, generated at compile time.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull, UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow)]
[JsonSerializable(typeof(ArchiveLine))]
internal sealed partial class ArchiveJson : JsonSerializerContext
{
    /// <summary>The context to use: UTF-8 as it is; JSON in metadata may nest as deep as a client's may.</summary>
    public static ArchiveJson Lines => InLines.Context;

    // A class of its own: made after the generated statics that it copies from.
    private static class InLines
    {
        public static readonly ArchiveJson Context = new(new JsonSerializerOptions(Default.Options)
        {
            TypeInfoResolver = null,
            Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
            MaxDepth = ApiJson.MaxDepth + 8,
        });
    }
}
