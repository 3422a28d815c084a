using System.Buffers.Text;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Sessions.Api.Domain;

/// <summary>
/// A time that something took as the API shows it: seconds, with as many digits of microseconds as there are, never with an exponent.
/// </summary>
/// <param name="value">The time; what is finer than a microsecond is not shown.</param>
[JsonConverter(typeof(Converter))]
internal readonly struct ApiSeconds(TimeSpan value)
{
    private const int FractionDigits = 6;
    private const ulong MicrosecondsPerSecond = 1_000_000;

    private readonly long _microseconds = value.Ticks / TimeSpan.TicksPerMicrosecond;

    /// <summary>The time.</summary>
    public TimeSpan Value => TimeSpan.FromTicks(_microseconds * TimeSpan.TicksPerMicrosecond);

    public static implicit operator ApiSeconds(TimeSpan value) => new(value);

    /// <summary>Writes it as a JSON number.</summary>
    public void WriteTo(Utf8JsonWriter writer)
    {
        Span<byte> text = stackalloc byte[32];
        var length = 0;
        if (_microseconds < 0)
        {
            text[length++] = (byte)'-';
        }

        // By itself the least of all numbers has no counterpart.
        var magnitude = (ulong)Int128.Abs(_microseconds);
        Utf8Formatter.TryFormat(magnitude / MicrosecondsPerSecond, text[length..], out var whole);
        length += whole;
        var fraction = magnitude % MicrosecondsPerSecond;
        if (fraction > 0)
        {
            text[length++] = (byte)'.';
            for (var i = FractionDigits - 1; i >= 0; i--)
            {
                text[length + i] = (byte)('0' + (fraction % 10));
                fraction /= 10;
            }

            length += text.Slice(length, FractionDigits).TrimEnd((byte)'0').Length;
        }

        writer.WriteRawValue(text[..length], skipInputValidation: true);
    }

    /// <summary>A JSON number.</summary>
    public sealed class Converter : JsonConverter<ApiSeconds>
    {
        public override ApiSeconds Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
        {
            // A double has no thousandths: 0.034143 may be a little less than it says.
            var microseconds = Math.Round(reader.GetDouble() * MicrosecondsPerSecond);
            return Math.Abs(microseconds) < TimeSpan.MaxValue.Ticks / TimeSpan.TicksPerMicrosecond
                ? new(TimeSpan.FromMicroseconds((long)microseconds))
                : throw new JsonException("No time is as long as that.");
        }

        public override void Write(Utf8JsonWriter writer, ApiSeconds value, JsonSerializerOptions options) => value.WriteTo(writer);
    }
}
