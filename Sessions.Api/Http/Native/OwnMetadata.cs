using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Http.OpenAi;
using Sessions.Api.Storage;

namespace Sessions.Api.Http.Native;

/// <summary>The keys that clients keep in a session's metadata beside ours.</summary>
internal static class OwnMetadata
{
    private static readonly JsonWriterOptions Compact = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    // Names that are the server's; the one under which what clients of /v1 call so is kept apart; and what is noted of branches.
    private static readonly string[] Reserved = [.. OpenAiMetadata.Reserved, OpenAiMetadata.Apart, BranchMarker.Key];

    // What JSON has beside the letters of the server's own key: its control character in six letters instead of one, two quotes, a colon
    // and a comma.
    private const int KeyOverhead = 5 + 2 + 1 + 1;

    /// <summary>Checks metadata as a client sent it, and gives it the form it is stored in.</summary>
    /// <returns>A JSON object in UTF-8; empty where there are no keys.</returns>
    /// <exception cref="ProblemException">It is not allowed.</exception>
    public static ReadOnlyMemory<byte> Check(JsonElement? metadata, LimitSettings limits)
    {
        if (metadata is not { } given)
        {
            return default;
        }

        return Store(Parse(given), limits);
    }

    /// <summary>Applies a JSON merge patch (RFC 7396) to stored metadata.</summary>
    /// <returns>The new metadata in the form it is stored in.</returns>
    /// <exception cref="ProblemException">The patch, or what comes of it, is not allowed.</exception>
    /// <exception cref="StoredDataException">What is stored is damaged.</exception>
    public static ReadOnlyMemory<byte> Merge(Session session, JsonElement patch, LimitSettings limits)
    {
        var merged = ToChange(session);
        Merge(merged, Parse(patch));
        return Store(merged, limits);
    }

    /// <summary>Reads each key that is stored of a session.</summary>
    /// <exception cref="StoredDataException">What is stored is damaged.</exception>
    public static void ReadStored(Session session, Action<JsonProperty> read)
    {
        if (session.Metadata.IsEmpty)
        {
            return;
        }

        try
        {
            foreach (var property in JsonElement.Parse(session.Metadata.Span).EnumerateObject())
            {
                read(property);
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw Damaged(session, e);
        }
    }

    /// <summary>What is stored of a session, to be changed.</summary>
    /// <exception cref="StoredDataException">What is stored is damaged.</exception>
    public static JsonObject ToChange(Session session)
    {
        try
        {
            return session.Metadata.IsEmpty ? [] : JsonObject.Create(JsonElement.Parse(session.Metadata.Span))
                ?? throw new JsonException();
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw Damaged(session, e);
        }
    }

    // Nothing else is ever written: what lies in the store is not what was put there.
    private static StoredDataException Damaged(Session session, Exception reason) =>
        new(DamageReport.NameOf(session.Id), "The metadata of a session is damaged in the store.", reason);

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

    /// <summary>What is to be stored, checked against the limits.</summary>
    /// <exception cref="DomainException">It is too much.</exception>
    public static ReadOnlyMemory<byte> Store(JsonObject metadata, LimitSettings limits)
    {
        if (metadata.Count == 0)
        {
            return default;
        }

        // What is noted of branches is the server's own.
        var noted = metadata.TryGetPropertyValue(BranchMarker.Key, out var branches) ? 1 : 0;
        if (metadata.Count - noted > limits.MetadataKeys)
        {
            throw new DomainException(
                Error.LimitExceeded("metadata", $"must have at most {limits.MetadataKeys} keys", "limits.metadata_keys"));
        }

        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer, Compact))
        {
            metadata.WriteTo(json);
        }

        var notedBytes = noted == 0 ? 0 : branches!.ToJsonString().Length + BranchMarker.Key.Length + KeyOverhead;
        if (buffer.Length - notedBytes > limits.MetadataBytes)
        {
            throw new DomainException(
                Error.LimitExceeded("metadata", $"must be at most {limits.MetadataBytes} bytes of JSON", "limits.metadata_bytes"));
        }

        return buffer.ToArray();
    }
}
