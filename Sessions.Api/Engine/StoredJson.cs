using System.Text.Json;
using System.Text.Unicode;
using Sessions.Api.Domain;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <summary>
/// Looks whether the JSON that lies in a store is what was put there: a row may be readable, and what stands in it not. Looked at where it
/// is read, so that everybody above has JSON that can be read. Texts are none, and are not looked at.
/// </summary>
internal static class StoredJson
{
    /// <summary>The key of a session's metadata under which clients of <c>/v1</c> keep what is the server's own name on native routes. No
    /// client can set it there.</summary>
    public const string Apart = "\u0001v1";

    /// <summary>How metadata is read to be written again: of a key that stands there twice nobody can say which is meant.</summary>
    public static readonly JsonDocumentOptions Once = new() { AllowDuplicateProperties = false };

    /// <summary>Looks at a head.</summary>
    /// <exception cref="StoredDataException">It can't be read.</exception>
    public static void Check(Session session)
    {
        if (!session.Metadata.IsEmpty && !IsMetadata(session.Metadata.Span))
        {
            throw new StoredDataException(DamageReport.NameOf(session.Id),
                $"The metadata of session '{session.Id}' can't be read: it is damaged.");
        }

        if (session.LastTurn is { } turn)
        {
            Check(session, turn);
        }
    }

    /// <summary>Looks at a turn of a session.</summary>
    /// <exception cref="StoredDataException">It can't be read.</exception>
    public static void Check(Session session, Turn turn)
    {
        if (!IsReadable(turn))
        {
            throw new StoredDataException(DamageReport.NameOf(session.Id),
                $"Turn {turn.Number} of session '{session.Id}' can't be read: its data is damaged.");
        }
    }

    /// <summary>Whether a turn can be read.</summary>
    public static bool IsReadable(Turn turn) =>
        IsReadable(turn.Input) && IsReadable(turn.Output) && (turn.Response.IsEmpty || IsObject(turn.Response.Span));

    /// <summary>Whether it is what a session's metadata may be: an object, with what is the server's own in it as the server writes
    /// it.</summary>
    public static bool IsMetadata(ReadOnlySpan<byte> metadata) =>
        IsObject(metadata) && (metadata.IndexOf("\"\\u0001"u8) < 0 || IsOursSound(JsonElement.Parse(metadata)));

    /// <summary>Whether it is an object, all of which can be read.</summary>
    public static bool IsObject(ReadOnlySpan<byte> json) => IsReadable(json, JsonTokenType.StartObject);

    /// <summary>Whether it is an array of items, all of which can be read.</summary>
    public static bool IsItems(ReadOnlySpan<byte> json) => IsReadable(json, JsonTokenType.StartArray);

    private static bool IsReadable(Items items) => items.Form != ItemsForm.Json || IsItems(items.Bytes.Span);

    private static bool IsReadable(ReadOnlySpan<byte> json, JsonTokenType first)
    {
        if (!Utf8.IsValid(json))
        {
            return false;
        }

        try
        {
            var reader = new Utf8JsonReader(json);
            reader.Read();
            if (reader.TokenType != first)
            {
                return false;
            }

            while (reader.Read())
            {
                if (first == JsonTokenType.StartArray && reader.CurrentDepth == 1
                    && reader.TokenType is not (JsonTokenType.StartObject or JsonTokenType.EndObject or JsonTokenType.Null))
                {
                    return false;
                }

                if (reader.ValueIsEscaped
                    && (reader.ValueSpan.IndexOf("\\ud"u8) >= 0 || reader.ValueSpan.IndexOf("\\uD"u8) >= 0))
                {
                    // Half a surrogate pair is JSON, but no text.
                    reader.GetString();
                }
            }

            return true;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            return false;
        }
    }

    private static bool IsOursSound(JsonElement metadata) =>
        (!metadata.TryGetProperty(Apart, out var apart) || (apart.ValueKind == JsonValueKind.Object
            && apart.EnumerateObject().All(kept => kept.Value.ValueKind == JsonValueKind.String)))
        && (!metadata.TryGetProperty(BranchMarker.Key, out var branches) || branches.ValueKind != JsonValueKind.Array
            || branches.EnumerateArray().All(suffix => suffix.ValueKind == JsonValueKind.String));
}
