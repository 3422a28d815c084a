using System.Text;
using System.Text.Json;
using Microsoft.ML.Tokenizers;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Agents;

/// <summary>
/// How many tokens a turn takes in a history, as OpenAI's o200k_base encoding counts. In pieces: the time that the encoding takes grows
/// with the square of the length of a word, and somebody's
/// word may be as long as a query. Of very long turns the beginning is counted, and the rest taken to be like it.
/// </summary>
internal static class HistoryTokens
{
    // What pictures and files take is for their provider to say.
    private const int PerAttachment = 1000;

    private const int PieceLength = 256;
    private const int CountedBytes = 512 << 10;

    private static readonly Lazy<Tokenizer> Encoding200k = new(() => TiktokenTokenizer.CreateForEncoding("o200k_base"));

    /// <summary>Counts one turn.</summary>
    public static int Count(Items input, Items output, CancellationToken cancellationToken) =>
        Saturate(Count(input, cancellationToken) + Count(output, cancellationToken));

    private static long Count(Items items, CancellationToken cancellationToken)
    {
        switch (items.Form)
        {
            case ItemsForm.Text:
                return Count(items.Bytes.Span, cancellationToken);
            case ItemsForm.Json:
                var count = 0L;
                var reader = new Utf8JsonReader(items.Bytes.Span);
                while (reader.Read())
                {
                    if (reader.TokenType == JsonTokenType.String)
                    {
                        count += reader.ValueSpan.StartsWith("data:"u8) ? PerAttachment : Count(Unescape(ref reader), cancellationToken);
                    }
                }

                return count;
            default:
                return 0;
        }
    }

    private static ReadOnlySpan<byte> Unescape(ref Utf8JsonReader reader)
    {
        if (!reader.ValueIsEscaped)
        {
            return reader.ValueSpan;
        }

        var text = new byte[reader.ValueSpan.Length];
        return text.AsSpan(0, reader.CopyString(text));
    }

    private static long Count(ReadOnlySpan<byte> text, CancellationToken cancellationToken)
    {
        var counted = text[..Math.Min(text.Length, CountedBytes)];
        var characters = Encoding.UTF8.GetString(counted);
        var count = 0L;
        for (var start = 0; start < characters.Length;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var length = LengthOfPiece(characters.AsSpan(start));
            count += Encoding200k.Value.CountTokens(characters.AsSpan(start, length));
            start += length;
        }

        return counted.Length == text.Length ? count : count * text.Length / counted.Length;
    }

    // Up to a space, which belongs to the word behind it; through a word only where there is none.
    private static int LengthOfPiece(ReadOnlySpan<char> text)
    {
        if (text.Length <= PieceLength)
        {
            return text.Length;
        }

        var space = text[..PieceLength].LastIndexOf(' ');
        return space > 0 ? space : char.IsHighSurrogate(text[PieceLength - 1]) ? PieceLength - 1 : PieceLength;
    }

    private static int Saturate(long count) => (int)Math.Min(count, int.MaxValue);
}
