using System.Buffers;
using System.Text.Json;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine;

/// <summary>Takes items out of a turn. Their bytes go; their places stay taken, by <c>null</c>.</summary>
internal static class ItemDeletion
{
    private static readonly SearchValues<byte> Nothing = SearchValues.Create("[nul,]"u8);

    /// <summary>Items without the one at a place.</summary>
    /// <returns><see langword="null"/>: there is none at that place, or no longer.</returns>
    /// <exception cref="JsonException">They can't be read.</exception>
    public static Items? Without(Items items, int index)
    {
        if (items.Form == ItemsForm.Text)
        {
            return index == 0 ? Items.OfJson("[null]"u8.ToArray()) : null;
        }

        return items.Form == ItemsForm.Json && Find(items.Bytes.Span, index) is var (start, length)
            && !items.Bytes.Span.Slice(start, length).SequenceEqual("null"u8)
            ? Items.OfJson((byte[])[.. items.Bytes.Span[..start], .. "null"u8, .. items.Bytes.Span[(start + length)..]])
            : null;
    }

    /// <summary>As many places as there are items, and none of them.</summary>
    public static Items WithoutAll(Items items) => items.Form switch
    {
        ItemsForm.None => items,
        ItemsForm.Text => Items.OfJson("[null]"u8.ToArray()),
        _ => Items.OfJson(Nulls(Count(items.Bytes.Span))),
    };

    /// <summary>Whether there were items, and all were deleted.</summary>
    public static bool IsEmptied(Items items) =>
        items.Form == ItemsForm.Json && items.Bytes.Span is [_, (byte)'n', ..] and var array && array.IndexOfAnyExcept(Nothing) < 0;

    private static byte[] Nulls(int count) =>
        [.. "["u8, .. System.Text.Encoding.ASCII.GetBytes(string.Join(',', Enumerable.Repeat("null", count))), .. "]"u8];

    private static int Count(ReadOnlySpan<byte> array)
    {
        var count = 0;
        var reader = new Utf8JsonReader(array);
        reader.Read();
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            reader.Skip();
            count++;
        }

        return count;
    }

    // Where the item stands in the array, in bytes.
    private static (int Start, int Length)? Find(ReadOnlySpan<byte> array, int index)
    {
        var reader = new Utf8JsonReader(array);
        reader.Read();
        for (var i = 0; reader.Read() && reader.TokenType != JsonTokenType.EndArray; i++)
        {
            var start = (int)reader.TokenStartIndex;
            reader.Skip();
            if (i == index)
            {
                return (start, (int)reader.BytesConsumed - start);
            }
        }

        return null;
    }
}
