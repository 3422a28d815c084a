using System.Runtime.InteropServices;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using Sessions.Api.Domain;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <summary>
/// A line of an export, of a whole store or of a user: a session, one of its turns, or the end. What a version reads it also understands
/// when an earlier one wrote it; fields that it does
/// not know it leaves alone.
/// </summary>
internal sealed record ArchiveLine
{
    /// <summary>The session that a turn belongs to.</summary>
    public string? SessionId { get; init; }

    public ArchiveSession? Session { get; init; }

    public ArchiveTurn? Turn { get; init; }

    /// <summary>What a user's export of the version before told on a line of its own.</summary>
    public ArchiveSummary? Summary { get; init; }

    public ArchiveEnd? End { get; init; }

    /// <summary>A line for an entry.</summary>
    /// <param name="entry">The entry.</param>
    /// <param name="sessionId">The session that a turn belongs to.</param>
    public static ArchiveLine From(ArchiveEntry entry, string sessionId) => entry.Session is { } session
        ? new() { Session = ArchiveSession.From(session) }
        : new() { SessionId = sessionId, Turn = ArchiveTurn.From(entry.Turn!) };
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

/// <summary>Tokens of a turn.</summary>
internal sealed record ArchiveUsage(long? InputTokens, long? OutputTokens, long? CachedInputTokens = null, long? ReasoningTokens = null);

/// <summary>JSON as it was written. In a line a break between two tokens is a space, which means the same.</summary>
/// <param name="Bytes">A value in UTF-8.</param>
[JsonConverter(typeof(Converter))]
internal readonly record struct RawJson(ReadOnlyMemory<byte> Bytes)
{
    /// <summary>A value; <see langword="null"/> where there are no bytes.</summary>
    public static RawJson? Of(ReadOnlyMemory<byte> bytes) => bytes.IsEmpty ? null : new RawJson(bytes);

    /// <summary>Writes it.</summary>
    public void WriteTo(Utf8JsonWriter writer)
    {
        var bytes = Bytes.Span;
        if (bytes.ContainsAny((byte)'\n', (byte)'\r'))
        {
            var line = bytes.ToArray();
            line.AsSpan().Replace((byte)'\n', (byte)' ');
            line.AsSpan().Replace((byte)'\r', (byte)' ');
            bytes = line;
        }

        writer.WriteRawValue(bytes, skipInputValidation: true);
    }

    internal sealed class Converter : JsonConverter<RawJson>
    {
        public override RawJson Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
        {
            using var value = JsonDocument.ParseValue(ref reader);
            return new RawJson(JsonMarshal.GetRawUtf8Value(value.RootElement).ToArray());
        }

        public override void Write(Utf8JsonWriter writer, RawJson value, JsonSerializerOptions options) => value.WriteTo(writer);
    }
}

/// <summary>The JSON of an export, generated at compile time.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(ArchiveLine))]
internal sealed partial class ArchiveLineJson : JsonSerializerContext
{
    // JSON in metadata and items may nest as deep as a client's may, and stands some levels down.
    private const int MaxDepth = 256;

    /// <summary>The context to use: UTF-8 as it is.</summary>
    public static ArchiveLineJson Lines => InLines.Context;

    // A class of its own: made after the generated statics that it copies from.
    private static class InLines
    {
        public static readonly ArchiveLineJson Context = new(new JsonSerializerOptions(Default.Options)
        {
            TypeInfoResolver = null,
            Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
            MaxDepth = MaxDepth,
        });
    }
}
