using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Sessions.Api.Domain;

/// <summary>
/// A time as the API shows it: RFC 3339 in UTC, always with six digits of fractions, so that times sort as texts and parsers that are
/// told one form
/// can read them all.
/// </summary>
/// <param name="value">The time; what is finer than a microsecond is not shown.</param>
[JsonConverter(typeof(Converter))]
internal readonly struct ApiTime(DateTimeOffset value)
{
    // 2026-01-31T12:00:00.000000Z
    private const int Length = 27;

    private readonly DateTimeOffset _value = value;

    /// <summary>The time.</summary>
    public DateTimeOffset Value => _value;

    public static implicit operator ApiTime(DateTimeOffset value) => new(value);

    /// <summary>A time as RFC 3339 has it, and nothing else: with the date, the seconds and the offset.</summary>
    public static bool TryParse(string text, out DateTimeOffset time)
    {
        time = default;
        var span = text.AsSpan();
        return IsForm(span)
            && DateTimeOffset.TryParse(WithoutNanoseconds(text), CultureInfo.InvariantCulture, DateTimeStyles.None, out time);
    }

    private static bool IsForm(ReadOnlySpan<char> text)
    {
        const string Form = "0000-00-00T00:00:00";
        if (text.Length <= Form.Length || !Fits(text[..Form.Length], Form))
        {
            return false;
        }

        text = text[Form.Length..];
        if (text[0] == '.')
        {
            var digits = text[1..].IndexOfAnyExceptInRange('0', '9');
            if (digits <= 0)
            {
                return false;
            }

            text = text[(1 + digits)..];
        }

        return text is "Z" or "z" || Fits(text, "+00:00") || Fits(text, "-00:00");
    }

    private static bool Fits(ReadOnlySpan<char> text, string form)
    {
        if (text.Length != form.Length)
        {
            return false;
        }

        for (var i = 0; i < form.Length; i++)
        {
            if (form[i] == '0' ? !char.IsAsciiDigit(text[i]) : form[i] != char.ToUpperInvariant(text[i]))
            {
                return false;
            }
        }

        return true;
    }

    // The framework reads seven digits at most.
    private static string WithoutNanoseconds(string text)
    {
        const int FractionEnd = 27;
        var end = text.AsSpan(19).IndexOfAny("Zz+-") + 19;
        return end <= FractionEnd ? text : string.Concat(text.AsSpan(0, FractionEnd), text.AsSpan(end));
    }

    /// <summary>Writes it as a JSON string.</summary>
    public void WriteTo(Utf8JsonWriter writer)
    {
        // The framework's own form has a seventh digit.
        Span<byte> text = stackalloc byte[Length + 1];
        _value.UtcDateTime.TryFormat(text, out _, "O", CultureInfo.InvariantCulture);
        text[Length - 1] = (byte)'Z';
        writer.WriteStringValue(text[..Length]);
    }

    /// <summary>A JSON string.</summary>
    public sealed class Converter : JsonConverter<ApiTime>
    {
        public override ApiTime Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
            reader.GetDateTimeOffset();

        public override void Write(Utf8JsonWriter writer, ApiTime value, JsonSerializerOptions options) => value.WriteTo(writer);
    }
}
