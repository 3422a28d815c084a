using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Http.OpenAi;

namespace Sessions.Api.Http.Native;

/// <summary>The keys that clients keep in a session's metadata beside ours.</summary>
internal static class OwnMetadata
{
    private static readonly JsonWriterOptions Compact = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    // Names that are the server's; the one under which what clients of /v1 call so is kept apart; and what is noted of branches.
    private static readonly string[] Reserved = [.. OpenAiMetadata.Reserved, StoredJson.Apart, BranchMarker.Key];

    /// <summary>Checks metadata as a client sent it, and gives it the form it is stored in.</summary>
    /// <returns>A JSON object in UTF-8; empty where there are no keys.</returns>
    /// <exception cref="ProblemException">It is not allowed.</exception>
    public static ReadOnlyMemory<byte> Check(JsonElement? metadata, LimitSettings limits)
    {
        if (metadata is not { } given)
        {
            return default;
        }

        var own = Parse(given);
        CheckLimits(own, limits);
        return Write(own);
    }

    /// <summary>Applies a JSON merge patch (RFC 7396) to stored metadata.</summary>
    /// <returns>The new metadata in the form it is stored in.</returns>
    /// <exception cref="ProblemException">The patch, or what comes of it, is not allowed.</exception>
    /// <exception cref="JsonException">What is stored can't be changed: a key stands there twice.</exception>
    public static ReadOnlyMemory<byte> Merge(Session session, JsonElement patch, LimitSettings limits)
    {
        var merged = ToChange(session);
        var before = Counted(merged);
        Merge(merged, Parse(patch));
        var counted = Counted(merged);
        if (before.Count > limits.MetadataKeys || Write(before).Length > limits.MetadataBytes)
        {
            // Clients of /v1 have put more there than native ones may, within the bounds that are theirs: what of it stays as it is does
            // not count.
            foreach (var name in OpenAiMetadata.Of(session).Keys.Where(name => JsonNode.DeepEquals(before[name], counted[name])))
            {
                counted.Remove(name);
            }
        }

        CheckLimits(counted, limits);
        return Write(merged);
    }

    /// <summary>Reads each key that is stored of a session.</summary>
    public static void ReadStored(Session session, Action<JsonProperty> read)
    {
        if (session.Metadata.IsEmpty)
        {
            return;
        }

        foreach (var property in JsonElement.Parse(session.Metadata.Span).EnumerateObject())
        {
            read(property);
        }
    }

    /// <summary>What is stored of a session, to be changed.</summary>
    /// <exception cref="JsonException">A key stands there twice.</exception>
    public static JsonObject ToChange(Session session) =>
        session.Metadata.IsEmpty ? [] : JsonObject.Create(JsonElement.Parse(session.Metadata.Span, StoredJson.Once))!;

    // What of it counts for a native client's limits: not what the server has noted there, and not what is kept apart for /v1.
    private static JsonObject Counted(JsonObject metadata)
    {
        var counted = metadata.DeepClone().AsObject();
        counted.Remove(BranchMarker.Key);
        counted.Remove(StoredJson.Apart);
        return counted;
    }

    private static JsonObject Parse(JsonElement metadata)
    {
        if (metadata.ValueKind != JsonValueKind.Object)
        {
            throw new DomainException(Error.InvalidField("metadata", "must be a JSON object"));
        }

        JsonObject node;
        try
        {
            // A key or a text with half a surrogate pair parses, but is no Unicode: reading it all once finds out.
            node = JsonObject.Create(metadata)!;
            Visit(node);
        }
        catch (Exception e) when (e is InvalidOperationException or ArgumentException)
        {
            throw new DomainException(Error.InvalidField("metadata", "must be valid Unicode, with each key once"));
        }

        foreach (var key in Reserved)
        {
            if (node.ContainsKey(key))
            {
                throw new DomainException(Error.InvalidField($"metadata.{key}", "is kept by the server and can't be set"));
            }
        }

        return node;
    }

    private static void Visit(JsonNode? node)
    {
        switch (node)
        {
            case JsonObject nested:
                foreach (var (_, value) in nested)
                {
                    Visit(value);
                }

                break;
            case JsonArray array:
                foreach (var item in array)
                {
                    Visit(item);
                }

                break;
            case JsonValue value when value.GetValueKind() == JsonValueKind.String:
                value.GetValue<string>();
                break;
        }
    }

    private static void Merge(JsonObject target, JsonObject patch)
    {
        foreach (var (key, value) in patch)
        {
            switch (value)
            {
                case null:
                    target.Remove(key);
                    break;
                case JsonObject nested:
                    if (target[key] is not JsonObject inner)
                    {
                        target[key] = inner = [];
                    }

                    Merge(inner, nested);
                    break;
                default:
                    target[key] = value.DeepClone();
                    break;
            }
        }
    }

    private static void CheckLimits(JsonObject metadata, LimitSettings limits)
    {
        if (metadata.Count > limits.MetadataKeys)
        {
            throw new DomainException(
                Error.LimitExceeded("metadata", $"must have at most {limits.MetadataKeys} keys", "limits.metadata_keys"));
        }

        if (Write(metadata).Length > limits.MetadataBytes)
        {
            throw new DomainException(
                Error.LimitExceeded("metadata", $"must be at most {limits.MetadataBytes} bytes of JSON", "limits.metadata_bytes"));
        }
    }

    /// <summary>Metadata in the form it is stored in.</summary>
    public static ReadOnlyMemory<byte> Write(JsonObject metadata)
    {
        if (metadata.Count == 0)
        {
            return default;
        }

        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer, Compact))
        {
            metadata.WriteTo(json);
        }

        return buffer.ToArray();
    }
}
