using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using StackExchange.Redis;

namespace Sessions.Api;

/// <summary>How sessions and turns are written: a session as a hash with short field names, a turn as JSON, so that both can be read by eye.</summary>
internal static class RedisCodec
{
    private static readonly RedisValue TurnCountField = "n";

    private static readonly RedisJson Json = new(new JsonSerializerOptions(RedisJson.Default.Options)
    {
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        TypeInfoResolver = null,
    });

    /// <summary>A turn; its number is its place in the list.</summary>
    public static RedisValue Encode(Turn turn) => JsonSerializer.SerializeToUtf8Bytes(new RedisTurn(
        turn.Query, turn.Response, turn.AgentType, turn.AgentUsed, turn.CreatedAt.ToMicroseconds(), turn.ExecutionTime.Ticks / TimeSpan.TicksPerMicrosecond,
        turn.InputTokens, turn.OutputTokens, turn.StartedSession), Json.RedisTurn);

    public static Turn DecodeTurn(RedisResult encoded, int number) => DecodeTurn((RedisValue)encoded, number);

    public static Turn DecodeTurn(RedisValue encoded, int number)
    {
        var turn = JsonSerializer.Deserialize(((ReadOnlyMemory<byte>)encoded).Span, Json.RedisTurn)!;
        return new Turn
        {
            Number = number,
            Query = turn.Query,
            Response = turn.Response,
            AgentType = turn.AgentType,
            AgentUsed = turn.AgentUsed,
            CreatedAt = Timestamps.FromMicroseconds(turn.CreatedAt),
            ExecutionTime = new TimeSpan(turn.ExecutionTime * TimeSpan.TicksPerMicrosecond),
            InputTokens = turn.InputTokens,
            OutputTokens = turn.OutputTokens,
            StartedSession = turn.StartedSession,
        };
    }

    /// <summary>Turns that follow one another.</summary>
    public static Turn[] DecodeTurns(RedisResult encoded, int first)
    {
        var turns = new Turn[encoded.Length];
        for (var i = 0; i < turns.Length; i++)
        {
            turns[i] = DecodeTurn(encoded[i], first + i);
        }

        return turns;
    }

    /// <summary>How many turns a session has, out of its fields.</summary>
    public static int TurnCount(RedisResult fields)
    {
        for (var i = 0; i < fields.Length; i += 2)
        {
            if ((RedisValue)fields[i] == TurnCountField)
            {
                return (int)fields[i + 1];
            }
        }

        return 0;
    }

    /// <summary>A session out of its fields and its last turn.</summary>
    public static RedisRow DecodeSession(string id, RedisResult fields, RedisResult lastTurn, long timeout) =>
        DecodeSession(id, fields, lastTurn.IsNull ? null : DecodeTurn(lastTurn, TurnCount(fields)), timeout);

    /// <inheritdoc cref="DecodeSession(string, RedisResult, RedisResult, long)"/>
    public static RedisRow DecodeSession(string id, RedisResult fields, Turn? lastTurn, long timeout)
    {
        string? user = null, incarnation = null, error = null, origin = null, reservation = null;
        Utf8Text? summary = null;
        long created = 0, activity = 0, version = 0;
        int turns = 0, errors = 0, covers = 0;
        var pending = false;
        ReadOnlyMemory<byte> metadata = default;
        for (var i = 0; i < fields.Length; i += 2)
        {
            var value = fields[i + 1];
            switch ((string?)fields[i])
            {
                case "u": user = (string?)value; break;
                case "c": created = (long)value; break;
                case "a": activity = (long)value; break;
                case "v": version = (long)value; break;
                case "n": turns = (int)value; break;
                case "o": origin = (string?)value; break;
                case "i": incarnation = (string?)value; break;
                case "m": metadata = (byte[]?)value; break;
                case "e": errors = (int)value; break;
                case "le": error = (string?)value; break;
                case "st": summary = new Utf8Text((byte[]?)value); break;
                case "sc": covers = (int)value; break;
                case "r": reservation = (string?)value; break;
                case "p": pending = true; break;
                default: break;
            }
        }

        var session = new Session
        {
            Id = id,
            UserId = user,
            CreatedAt = Timestamps.FromMicroseconds(created),
            LastActivityAt = Timestamps.FromMicroseconds(activity),
            ExpiresAt = Timestamps.FromMicroseconds(activity + timeout),
            Version = version,
            CreatedFrom = Enum.Parse<SessionOrigin>(origin!, ignoreCase: true),
            Metadata = metadata,
            TurnCount = turns,
            LastTurn = lastTurn,
            Summary = summary is { } text ? new Summary(text, covers) : null,
            ErrorCount = errors,
            LastError = error,
        };
        return new RedisRow(session, activity, incarnation!, reservation, pending);
    }

    /// <summary>An origin as a session's hash has it.</summary>
    public static string Encode(SessionOrigin origin) => SessionMetadata.Name(origin);

    /// <summary>A text, for which an empty one stands where there is none.</summary>
    public static string? EmptyToNull(RedisResult text) => (string?)text is { Length: > 0 } some ? some : null;

    /// <summary>A 128-bit hash.</summary>
    public static RedisValue Encode(Guid? hash) => hash is { } value ? value.ToByteArray() : RedisValue.EmptyString;
}

/// <summary>A session as it was read, with what only the store needs.</summary>
/// <param name="Session">The session.</param>
/// <param name="Activity">Its last activity in microseconds.</param>
/// <param name="Incarnation">What tells it from an earlier or later one with the same id.</param>
/// <param name="Reservation">The idempotency key that is tied to its id.</param>
/// <param name="IsPending">Whether it may be missing in the indexes: whoever made it has not said that it is there.</param>
internal sealed record RedisRow(Session Session, long Activity, string Incarnation, string? Reservation, bool IsPending);

/// <summary>What is left to tell of a session that was removed or replaced: what it is to be forgotten by.</summary>
/// <param name="UserId">Its user.</param>
/// <param name="Activity">Its last activity in microseconds.</param>
/// <param name="Reservation">The idempotency key that is tied to its id.</param>
/// <param name="Turns">How many turns it had.</param>
/// <param name="WasLive">Whether it had not expired.</param>
internal sealed record RedisRemains(string? UserId, long Activity, string? Reservation, int Turns, bool WasLive)
{
    public static RedisRemains? Decode(RedisResult result) => result.IsNull ? null : new(
        RedisCodec.EmptyToNull(result[0]), (long)result[1], RedisCodec.EmptyToNull(result[2]), (int)result[3], (int)result[4] == 1);

}

/// <summary>A turn as it is written.</summary>
internal sealed record RedisTurn(
    [property: JsonPropertyName("q")] Utf8Text Query,
    [property: JsonPropertyName("r")] Utf8Text Response,
    [property: JsonPropertyName("a")] string AgentType,
    [property: JsonPropertyName("u")] string AgentUsed,
    [property: JsonPropertyName("t")] long CreatedAt,
    [property: JsonPropertyName("x")] long ExecutionTime,
    [property: JsonPropertyName("i")] long? InputTokens,
    [property: JsonPropertyName("o")] long? OutputTokens,
    [property: JsonPropertyName("s")] bool StartedSession);

[JsonSourceGenerationOptions(DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingDefault)]
[JsonSerializable(typeof(RedisTurn))]
internal sealed partial class RedisJson : JsonSerializerContext;
