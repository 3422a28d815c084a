using System.Text.Json;
using System.Text.Json.Nodes;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Http.Native;

namespace Sessions.Api.Http.OpenAi;

/// <summary>
/// The metadata of conversations and responses: texts only, as OpenAI has them. Of a session's own keys those show that are such; names
/// that are the server's on native routes are legal here, and kept apart under <see cref="StoredJson.Apart"/>.
/// </summary>
internal static class OpenAiMetadata
{
    private const int MaxKeys = 16;
    private const int MaxKeyLength = 64;
    private const int MaxValueLength = 512;

    /// <summary>The names that are the server's own on native routes.</summary>
    public static readonly IReadOnlyList<string> Reserved = ["query_count", "last_query", "last_agent_type", "created_from"];

    /// <summary>Reads what a client sent; <see langword="null"/> where it sent nothing.</summary>
    /// <exception cref="OpenAiException">It is not allowed.</exception>
    public static OrderedDictionary<string, string>? Read(JsonElement? given)
    {
        if (given is not { ValueKind: not JsonValueKind.Null } metadata)
        {
            return null;
        }

        if (metadata.ValueKind != JsonValueKind.Object)
        {
            throw new OpenAiException("metadata", "Invalid type for 'metadata': expected an object of texts.", "invalid_type");
        }

        OrderedDictionary<string, string> read = new(StringComparer.Ordinal);
        foreach (var property in metadata.EnumerateObject())
        {
            var name = $"metadata.{Error.Shorten(property.Name)}";
            if (property.Name.Length == 0)
            {
                throw new OpenAiException(name, $"Invalid '{name}': keys must not be empty.", "empty_string");
            }

            if (IsLonger(property.Name, MaxKeyLength))
            {
                throw new OpenAiException(
                    name, $"Invalid '{name}': keys must have at most {MaxKeyLength} characters.",
                    "string_above_max_length");
            }

            if (property.Value.ValueKind != JsonValueKind.String)
            {
                throw new OpenAiException(name, $"Invalid type for '{name}': expected a text.", "invalid_type");
            }

            var value = property.Value.GetString()!;
            if (IsLonger(value, MaxValueLength))
            {
                throw new OpenAiException(
                    name, $"Invalid '{name}': values must have at most {MaxValueLength} characters.",
                    "string_above_max_length");
            }

            read[property.Name] = value;
        }

        return read.Count <= MaxKeys ? read
            : throw new OpenAiException(
                "metadata", $"Invalid 'metadata': there must be at most {MaxKeys} keys.",
                "object_above_max_properties");
    }

    /// <summary>What shows of a session's metadata.</summary>
    public static OrderedDictionary<string, string> Of(Session session)
    {
        OrderedDictionary<string, string> shown = new(StringComparer.Ordinal);
        OwnMetadata.ReadStored(session, property =>
        {
            if (property.Name == StoredJson.Apart)
            {
                foreach (var kept in property.Value.EnumerateObject())
                {
                    shown[kept.Name] = kept.Value.GetString()!;
                }
            }
            else if (IsShown(property))
            {
                shown[property.Name] = property.Value.GetString()!;
            }
        });

        // Native clients may keep more than OpenAI's clients can read.
        while (shown.Count > MaxKeys)
        {
            shown.RemoveAt(shown.Count - 1);
        }

        return shown;
    }

    /// <summary>A session's metadata with what shows of it replaced. OpenAI's own limits, which it was read with, bound its bytes too;
    /// those of native clients are for what these keep.</summary>
    /// <exception cref="JsonException">What is stored can't be changed: a key stands there twice.</exception>
    public static ReadOnlyMemory<byte> Replace(Session session, OrderedDictionary<string, string> shown)
    {
        var metadata = OwnMetadata.ToChange(session);
        foreach (var name in Of(session).Keys.Where(name => name != BranchMarker.Key))
        {
            metadata.Remove(name);
        }

        metadata.Remove(StoredJson.Apart);
        return Store(metadata, shown);
    }

    /// <summary>The metadata of a new session.</summary>
    public static ReadOnlyMemory<byte> Store(OrderedDictionary<string, string> shown) => Store([], shown);

    private static ReadOnlyMemory<byte> Store(JsonObject metadata, OrderedDictionary<string, string> shown)
    {
        var apart = new JsonObject();
        var place = 0;
        foreach (var (name, value) in shown)
        {
            if (Reserved.Contains(name) || name is StoredJson.Apart or BranchMarker.Key)
            {
                apart[name] = value;
            }
            else
            {
                // In front: where there is more than can be shown, what was asked for is.
                metadata.Remove(name);
                metadata.Insert(place++, name, value);
            }
        }

        if (apart.Count > 0)
        {
            metadata.Insert(0, StoredJson.Apart, apart);
        }

        return OwnMetadata.Write(metadata);
    }

    /// <summary>Writes it.</summary>
    public static void Write(Utf8JsonWriter json, OrderedDictionary<string, string> metadata)
    {
        json.WriteStartObject();
        foreach (var (name, value) in metadata)
        {
            json.WriteString(name, value);
        }

        json.WriteEndObject();
    }

    private static bool IsShown(JsonProperty property) =>
        property.Value.ValueKind == JsonValueKind.String && property.Name.Length > 0 && !IsLonger(property.Name, MaxKeyLength)
        && !IsLonger(property.Value.GetString()!, MaxValueLength);

    // Characters as OpenAI counts them: code points.
    private static bool IsLonger(string text, int length) => text.Length > length && text.EnumerateRunes().Skip(length).Any();
}
