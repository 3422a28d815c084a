using System.Text;
using System.Text.Json;

namespace Sessions.Api.Domain;

/// <summary>How <see cref="Items"/> are written.</summary>
internal enum ItemsForm : byte
{
    /// <summary>There are none: no bytes.</summary>
    None,

    /// <summary>One message, as its text in UTF-8. Who says it is told by the side: the user on the input side, the agent on the output
    /// side.</summary>
    Text,

    /// <summary>A JSON array of items as OpenAI's Responses API has them, without their <c>id</c>s (see <see cref="ItemId"/>); a deleted
    /// one is <c>null</c>.</summary>
    Json,
}

/// <summary>Which side of a turn.</summary>
internal enum ItemSide : byte
{
    /// <summary>What came in.</summary>
    Input,

    /// <summary>What came out.</summary>
    Output,
}

/// <summary>
/// One side of a turn: bytes and a form. Stored and answered as they came, in order, never re-encoded. The form
/// <see cref="ItemsForm.Text"/> is that of most turns:
/// a query and its response without any JSON around them.
/// </summary>
internal readonly struct Items : IEquatable<Items>
{
    private Items(ItemsForm form, ReadOnlyMemory<byte> bytes) => (Form, Bytes) = (form, bytes);

    /// <summary>None at all.</summary>
    public static Items None => default;

    /// <summary>How they are written.</summary>
    public ItemsForm Form { get; }

    /// <summary>What is written. Never changed from here on. Sealed where the store is given it by an encrypting
    /// <c>SessionLog</c>.</summary>
    public ReadOnlyMemory<byte> Bytes { get; }

    /// <summary>How many bytes it takes.</summary>
    public int Length => Bytes.Length;

    /// <summary>Whether there are none.</summary>
    public bool IsNone => Form == ItemsForm.None;

    /// <summary>One message.</summary>
    public static Items OfText(Utf8Text text) => new(ItemsForm.Text, text.Bytes);

    /// <summary>Items as a JSON array in UTF-8, which is taken to be valid: it was checked where it came in.</summary>
    public static Items OfJson(ReadOnlyMemory<byte> array) => new(ItemsForm.Json, array);

    /// <summary>Bytes in a form, as a store keeps them.</summary>
    public static Items Of(ItemsForm form, ReadOnlyMemory<byte> bytes) => form == ItemsForm.None ? None : new(form, bytes);

    /// <summary>The same form with other bytes: sealed, or opened again.</summary>
    public Items With(ReadOnlyMemory<byte> bytes) => new(Form, bytes);

    public static bool operator ==(Items left, Items right) => left.Equals(right);

    public static bool operator !=(Items left, Items right) => !left.Equals(right);

    /// <summary>
    /// The text of these items, as the native API shows a turn: the texts of the user's messages (input) or of the agent's (output), a
    /// line break between two messages;
    /// <see langword="null"/> where there is none, as in a turn that ends in a call.
    /// </summary>
    public Utf8Text? TextOf(ItemSide side) => Form switch
    {
        ItemsForm.None => null,
        ItemsForm.Text => new Utf8Text(Bytes),
        _ => ItemTexts.Read(Bytes.Span, side),
    };

    public bool Equals(Items other) => Form == other.Form && Bytes.Span.SequenceEqual(other.Bytes.Span);

    public override bool Equals(object? obj) => obj is Items other && Equals(other);

    public override int GetHashCode()
    {
        var hash = default(HashCode);
        hash.Add(Form);
        hash.AddBytes(Bytes.Span);
        return hash.ToHashCode();
    }

    public override string ToString() => Encoding.UTF8.GetString(Bytes.Span);
}

/// <summary>Reads the texts out of items in JSON.</summary>
internal static class ItemTexts
{
    /// <summary>The texts of the messages of one side; <see langword="null"/> where there are none.</summary>
    public static Utf8Text? Read(ReadOnlySpan<byte> array, ItemSide side)
    {
        MemoryStream? texts = null;
        var reader = new Utf8JsonReader(array);
        reader.Read();
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType == JsonTokenType.StartObject)
            {
                using var item = JsonDocument.ParseValue(ref reader);
                Add(item.RootElement, side, ref texts);
            }
        }

        return texts is null ? (Utf8Text?)null : new Utf8Text(texts.ToArray());
    }

    private static void Add(JsonElement item, ItemSide side, ref MemoryStream? texts)
    {
        var role = side == ItemSide.Input ? "user" : "assistant";
        if (!item.TryGetProperty("role", out var said) || said.ValueKind != JsonValueKind.String || !said.ValueEquals(role)
            || !item.TryGetProperty("content", out var content))
        {
            return;
        }

        if (content.ValueKind == JsonValueKind.String)
        {
            Write(content, isFirst: true, ref texts);
        }
        else if (content.ValueKind == JsonValueKind.Array)
        {
            var isFirst = true;
            foreach (var part in content.EnumerateArray())
            {
                if (part.ValueKind == JsonValueKind.Object
                    && (part.TryGetProperty("text", out var text) || part.TryGetProperty("refusal", out text))
                    && text.ValueKind == JsonValueKind.String)
                {
                    Write(text, isFirst, ref texts);
                    isFirst = false;
                }
            }
        }
    }

    private static void Write(JsonElement text, bool isFirst, ref MemoryStream? texts)
    {
        if (texts is null)
        {
            texts = new MemoryStream();
        }
        else if (isFirst)
        {
            texts.WriteByte((byte)'\n');
        }

        texts.Write(Encoding.UTF8.GetBytes(text.GetString()!));
    }
}
