using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Sessions.Api.Domain;

/// <summary>
/// A text as UTF-8: what was asked and answered goes from the request through the store into the response without ever being a string. To
/// a store
/// these are bytes like any others.
/// </summary>
/// <param name="bytes">The text. Never changed from here on.</param>
[JsonConverter(typeof(Converter))]
internal readonly struct Utf8Text(ReadOnlyMemory<byte> bytes) : IEquatable<Utf8Text>
{
    /// <summary>The text in UTF-8.</summary>
    public ReadOnlyMemory<byte> Bytes { get; } = bytes;

    /// <inheritdoc cref="Bytes"/>
    public ReadOnlySpan<byte> Span => Bytes.Span;

    /// <summary>Its length in bytes.</summary>
    public int Length => Bytes.Length;

    /// <summary>Half a surrogate pair, which has no UTF-8, becomes U+FFFD.</summary>
    public static implicit operator Utf8Text(string text) => new(Encoding.UTF8.GetBytes(text));

    public static bool operator ==(Utf8Text left, Utf8Text right) => left.Equals(right);

    public static bool operator !=(Utf8Text left, Utf8Text right) => !left.Equals(right);

    /// <summary>Whether there is nothing but white space.</summary>
    public bool IsBlank
    {
        get
        {
            for (var rest = Span; !rest.IsEmpty;)
            {
                Rune.DecodeFromUtf8(rest, out var rune, out var length);
                if (!Rune.IsWhiteSpace(rune))
                {
                    return false;
                }

                rest = rest[length..];
            }

            return true;
        }
    }

    /// <summary>The beginning of the text, never ending in half a character.</summary>
    /// <param name="characters">Its length in UTF-16, as clients in most languages count.</param>
    public Utf8Text Shorten(int characters)
    {
        var text = Span;
        if (text.Length <= characters)
        {
            return this;
        }

        for (var i = 0; i < text.Length; i++)
        {
            // The bytes that continue a character don't count; characters of four bytes are a surrogate pair.
            characters -= (text[i] & 0xC0) == 0x80 ? 0 : text[i] >= 0xF0 ? 2 : 1;
            if (characters < 0)
            {
                return new((byte[])[.. text[..i], .. "…"u8]);
            }
        }

        return this;
    }

    /// <summary>The text behind another one.</summary>
    public Utf8Text After(ReadOnlySpan<byte> text) => new((byte[])[.. text, .. Span]);

    public bool Equals(Utf8Text other) => Span.SequenceEqual(other.Span);

    public override bool Equals(object? obj) => obj is Utf8Text other && Equals(other);

    public override int GetHashCode()
    {
        var hash = default(HashCode);
        hash.AddBytes(Span);
        return hash.ToHashCode();
    }

    public override string ToString() => Encoding.UTF8.GetString(Span);

    /// <summary>Writes it as a JSON string.</summary>
    public void WriteTo(Utf8JsonWriter writer) => JsonText.WriteStringValue(writer, Span);

    /// <summary>A JSON string.</summary>
    public sealed class Converter : JsonConverter<Utf8Text>
    {
        public override Utf8Text Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
        {
            if (reader.TokenType != JsonTokenType.String)
            {
                throw new JsonException();
            }

            var bytes = new byte[reader.HasValueSequence ? checked((int)reader.ValueSequence.Length) : reader.ValueSpan.Length];
            return new(bytes.AsMemory(0, reader.CopyString(bytes)));
        }

        public override void Write(Utf8JsonWriter writer, Utf8Text value, JsonSerializerOptions options) => value.WriteTo(writer);
    }
}
