using System.Buffers;
using System.Text.Json;

namespace Sessions.Api.Domain;

/// <summary>
/// Writes ASCII texts that hold quotes, line breaks and the like, as answers and code do. The library's encoder goes on character by
/// character from the first of them,
/// which was the costliest part of many answers; between them this copies.
/// </summary>
internal static class JsonText
{
    // What stands for itself within a JSON string. Beyond ASCII it is for the library to know what does.
    private static readonly SearchValues<byte> Plain = SearchValues.Create(
        [.. Enumerable.Range(' ', '~' - ' ' + 1).Select(b => (byte)b).Where(b => b is not ((byte)'"' or (byte)'\\'))]);

    /// <summary>Writes a property whose value is a text, in whichever way is fastest for it.</summary>
    public static void WriteString(Utf8JsonWriter writer, ReadOnlySpan<byte> name, ReadOnlySpan<byte> text)
    {
        writer.WritePropertyName(name);
        WriteStringValue(writer, text);
    }

    /// <summary>Writes a text as a JSON string, in whichever way is fastest for it.</summary>
    public static void WriteStringValue(Utf8JsonWriter writer, ReadOnlySpan<byte> text)
    {
        if (!TryWriteEscaped(writer, text))
        {
            writer.WriteStringValue(text);
        }
    }

    // Whether it was one of those that this knows to write, and to write faster.
    private static bool TryWriteEscaped(Utf8JsonWriter writer, ReadOnlySpan<byte> text)
    {
        var plain = text.IndexOfAnyExcept(Plain);
        if (plain < 0)
        {
            return false;
        }

        var json = ArrayPool<byte>.Shared.Rent((2 * text.Length) + 2);
        var length = Escape(text, plain, json);
        if (length > 0)
        {
            writer.WriteRawValue(json.AsSpan(0, length), skipInputValidation: true);
        }

        ArrayPool<byte>.Shared.Return(json);
        return length > 0;
    }

    // Zero where there is something that it does not know.
    private static int Escape(ReadOnlySpan<byte> text, int plain, Span<byte> json)
    {
        var length = 0;
        json[length++] = (byte)'"';
        while (plain >= 0)
        {
            var second = text[plain] switch
            {
                (byte)'"' => (byte)'"',
                (byte)'\\' => (byte)'\\',
                (byte)'\n' => (byte)'n',
                (byte)'\r' => (byte)'r',
                (byte)'\t' => (byte)'t',
                _ => default,
            };
            if (second == default)
            {
                return 0;
            }

            text[..plain].CopyTo(json[length..]);
            length += plain;
            json[length++] = (byte)'\\';
            json[length++] = second;
            text = text[(plain + 1)..];
            plain = text.IndexOfAnyExcept(Plain);
        }

        text.CopyTo(json[length..]);
        length += text.Length;
        json[length++] = (byte)'"';
        return length;
    }
}
