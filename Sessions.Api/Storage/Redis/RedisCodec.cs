using System.Globalization;
using System.Text;
using Sessions.Api.Domain;
using StackExchange.Redis;

namespace Sessions.Api.Storage.Redis;

/// <summary>How sessions are written: the head as a hash with short field names, a turn as <see cref="TurnCodec"/> packs it.</summary>
internal static class RedisCodec
{
    private const int HashBytes = 16;

    /// <summary>A head out of its fields.</summary>
    /// <exception cref="InvalidDataException">It is not one.</exception>
    public static RedisHead DecodeHead(string id, RedisResult fields)
    {
        string? user = null, reservation = null;
        byte[]? key = null;
        Utf8Text? summary = null, error = null;
        SessionOrigin? origin = null;
        long created = 0, activity = 0, expires = 0, version = 0, tag = 0, bytes = 0;
        int turns = 0, errors = 0, covers = 0, kind = 0, rewrites = 0;
        ReadOnlyMemory<byte> metadata = default;
        for (var i = 0; i + 1 < fields.Length; i += 2)
        {
            var value = fields[i + 1];
            switch ((string?)fields[i])
            {
                case "u": user = (string?)value; break;
                case "i": key = (byte[]?)value; break;
                case "k": kind = checked((byte)Number(value)); break;
                case "o": origin = SessionOrigins.Parse((string)value!); break;
                case "c": created = Number(value); break;
                case "a": activity = Number(value); break;
                case "x": expires = Number(value); break;
                case "v": version = Number(value); break;
                case "g": tag = Number(value); break;
                case "n": turns = checked((int)Number(value)); break;
                case "w": rewrites = checked((int)Number(value)); break;
                case "b": bytes = Number(value); break;
                case "m": metadata = (byte[]?)value; break;
                case "e": errors = checked((int)Number(value)); break;
                case "le": error = new Utf8Text((byte[]?)value); break;
                case "st": summary = new Utf8Text((byte[]?)value); break;
                case "sc": covers = checked((int)Number(value)); break;
                case "r": reservation = (string?)value; break;
                default: break;
            }
        }

        if (key is not { Length: HashBytes } || origin is null)
        {
            throw new InvalidDataException("The head lacks fields.");
        }

        return new RedisHead(new Session
        {
            Id = id,
            Key = new Guid(key),
            Kind = (SessionKind)kind,
            UserId = user,
            CreatedAt = Timestamps.FromMicroseconds(created),
            LastActivityAt = Timestamps.FromMicroseconds(activity),
            ExpiresAt = Timestamps.FromMicroseconds(expires),
            Revision = new Revision(version, tag),
            Rewrites = rewrites,
            CreatedFrom = origin.Value,
            Metadata = metadata,
            TurnCount = turns,
            Summary = summary is { } text ? new Summary(text, covers) : null,
            ErrorCount = errors,
            LastError = error,
            Bytes = bytes,
        }.Checked(), reservation);
    }

    /// <summary>A turn out of its value.</summary>
    /// <exception cref="InvalidDataException">It is not one.</exception>
    public static Turn DecodeTurn(RedisResult value, long number) => DecodeTurn((byte[]?)value, number);

    /// <inheritdoc cref="DecodeTurn(RedisResult, long)"/>
    public static Turn DecodeTurn(byte[]? value, long number) =>
        TurnCodec.Unpack(value ?? throw new InvalidDataException("A turn is missing."), checked((int)number)).Checked();

    /// <summary>A 128-bit hash or key; nothing where there is none.</summary>
    public static RedisValue Encode(Guid? hash) => hash is { } value ? value.ToByteArray() : RedisValue.EmptyString;

    /// <summary>What a request was answered by: its body and the turn's number.</summary>
    public static byte[] EncodeAnswer(Guid body, int number) =>
        [.. body.ToByteArray(), .. Encoding.ASCII.GetBytes(number.ToString(CultureInfo.InvariantCulture))];

    /// <summary>Reads that.</summary>
    /// <exception cref="InvalidDataException">It is none.</exception>
    public static (Guid Body, int Number) DecodeAnswer(byte[]? value) =>
        value is { Length: > HashBytes } && int.TryParse(value.AsSpan(HashBytes), NumberStyles.None, CultureInfo.InvariantCulture,
            out var number)
            ? (new Guid(value.AsSpan(0, HashBytes)), number)
            : throw new InvalidDataException("An answered request can't be read.");

    /// <summary>A key or hash out of its bytes.</summary>
    /// <exception cref="InvalidDataException">It is none.</exception>
    public static Guid DecodeHash(byte[]? value) => value is { Length: HashBytes }
        ? new Guid(value) : throw new InvalidDataException("A hash has 16 bytes.");

    /// <summary>Where a turn begins a run of its own: how that is written; empty where it goes on with the turn before it.</summary>
    public static string BranchOf(int number, int parent) =>
        number == 1 || parent == number - 1 ? "" : string.Create(CultureInfo.InvariantCulture, $"{number}:{parent}");

    /// <summary>A number as scripts take it.</summary>
    public static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);

    /// <summary>A text, for which an empty one stands where there is none.</summary>
    public static string? EmptyToNull(RedisResult text) => (string?)text is { Length: > 0 } some ? some : null;

    private static long Number(RedisResult value) =>
        long.TryParse((string?)value, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number)
            ? number : throw new InvalidDataException("A number can't be read.");
}

/// <summary>A session as it was read, with what only the store needs.</summary>
/// <param name="Session">The session.</param>
/// <param name="Reservation">The idempotency key that is tied to its id.</param>
internal sealed record RedisHead(Session Session, string? Reservation)
{
    /// <summary>What the indexes are told of it.</summary>
    public RedisFacts Facts => new(
        Session.Id, Session.Key, Session.Kind, Session.UserId, Session.LastActivityAt.ToMicroseconds(), Session.ExpiresAt.ToMicroseconds(),
        StorePolicy.SizeOf(Session.Bytes, Session.TurnCount), Reservation);
}

/// <summary>What the indexes are told of a session.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Key">Its key.</param>
/// <param name="Kind">Its kind.</param>
/// <param name="UserId">Its user.</param>
/// <param name="Activity">Its last activity in microseconds.</param>
/// <param name="ExpiresAt">When it expires, in microseconds.</param>
/// <param name="Size">What it counts for against limits in bytes.</param>
/// <param name="Reservation">The idempotency key that is tied to its id.</param>
internal sealed record RedisFacts(
    string Id, Guid Key, SessionKind Kind, string? UserId, long Activity, long ExpiresAt, long Size, string? Reservation)
{
    /// <summary>Its entry in indexes.</summary>
    public string Entry => RedisKeys.Entry(Id, Key);
}

/// <summary>What is left to tell of a session that was removed or replaced: what it is to be forgotten by.</summary>
/// <param name="UserId">Its user.</param>
/// <param name="Key">Its key; <see langword="null"/> where it could not be read.</param>
/// <param name="Kind">Its kind.</param>
/// <param name="Reservation">The idempotency key that is tied to its id.</param>
/// <param name="Turns">How many turns it had.</param>
/// <param name="WasLive">Whether it had not expired.</param>
internal sealed record RedisRemains(string? UserId, Guid? Key, SessionKind Kind, string? Reservation, int Turns, bool WasLive)
{
    /// <summary>Out of what scripts tell.</summary>
    public static RedisRemains? Decode(RedisResult result) => result.IsNull || result.Length < 6 ? null : new(
        RedisCodec.EmptyToNull(result[0]), (byte[]?)result[1] is { Length: 16 } key
            ? new Guid(key) : null, (SessionKind)(int)result[2], RedisCodec.EmptyToNull(result[3]),
        (int)result[4], (int)result[5] == 1);
}
