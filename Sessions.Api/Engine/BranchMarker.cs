using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine;

/// <summary>
/// Which chains went on from a session's turns, noted in its metadata under a name that no client can set: so they are found when the
/// session is deleted, or an item of it, whoever has claimed the one or the other since. A chain's id is the source's key and a suffix;
/// the suffixes are noted, so that a copy of the session, which has another key, names none.
/// </summary>
internal static class BranchMarker
{
    /// <summary>The name in the metadata.</summary>
    public const string Key = "\u0001branches";

    // With more it is noted only that there are many: they are then looked for among all chains. Fewer than the attempts that a change
    // has: however many go on at once, none is refused for the others.
    private const int MaxNamed = 8;

    private static readonly JsonWriterOptions Compact = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>An id for a chain that goes on from a turn of a session: it tells the session, so that both go together.</summary>
    public static string NewId(Guid sessionKey, TimeProvider time) => PrefixOf(sessionKey) + SessionKey.NewWithId(time).Id;

    /// <summary>What the ids of all chains begin with that went on from a session.</summary>
    public static string PrefixOf(Guid sessionKey) => $"{sessionKey:N}.";

    /// <summary>The ids of the chains; <see langword="null"/>: there are too many to be noted.</summary>
    /// <exception cref="JsonException">The metadata can't be read.</exception>
    /// <exception cref="InvalidOperationException">It is not what metadata is.</exception>
    public static IReadOnlyList<string>? Read(Session session)
    {
        if (session.Metadata.IsEmpty || !JsonElement.Parse(session.Metadata.Span).TryGetProperty(Key, out var noted))
        {
            return [];
        }

        return noted.ValueKind != JsonValueKind.Array ? null
            : [.. noted.EnumerateArray().Select(suffix => PrefixOf(session.Key) + suffix.GetString())];
    }

    /// <summary>The session's metadata with a chain noted; <see langword="null"/>: it is noted already.</summary>
    /// <exception cref="JsonException">The metadata can't be read.</exception>
    public static ReadOnlyMemory<byte>? Add(Session session, string chainId)
    {
        var prefix = PrefixOf(session.Key);
        if (Read(session) is not { } noted || noted.Contains(chainId) || !chainId.StartsWith(prefix, StringComparison.Ordinal))
        {
            return null;
        }

        var metadata = session.Metadata.IsEmpty ? [] : JsonNode.Parse(session.Metadata.Span, documentOptions: StoredJson.Once)!.AsObject();
        metadata[Key] = noted.Count == MaxNamed ? JsonValue.Create(true)
            : new JsonArray([.. noted.Append(chainId).Select(id => JsonValue.Create(id[prefix.Length..]))]);
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer, Compact))
        {
            metadata.WriteTo(json);
        }

        return buffer.ToArray();
    }
}
