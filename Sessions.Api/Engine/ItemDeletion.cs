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

    /// <summary>
    /// The reasoning right before an item that the model made (a message of the assistant's, or a call), where it led to nothing else
    /// behind that: to another one of several calls, say.
    /// </summary>
    /// <returns>Where it is, and whether nothing else stands before it in the turn.</returns>
    public static (List<(ItemSide Side, int Index)> Places, bool IsAll) ReasoningOf(Turn turn, ItemSide side, int index)
    {
        var items = ItemsOf(turn);
        var at = items.FindIndex(one => (one.Side, one.Index) == (side, index));
        var next = items.Skip(at + 1).FirstOrDefault(one => one.Item.ValueKind != JsonValueKind.Null);
        return at >= 0 && IsMadeByModel(items[at].Side, items[at].Item) && !IsMadeByModel(next.Side, next.Item)
            ? ReasoningBefore(items, at) : ([], false);
    }

    /// <summary>The reasoning at the end of a turn.</summary>
    /// <inheritdoc cref="ReasoningOf"/>
    public static (List<(ItemSide Side, int Index)> Places, bool IsAll) ReasoningAtEnd(Turn turn) =>
        ReasoningBefore(ItemsOf(turn), int.MaxValue);

    private static (List<(ItemSide Side, int Index)> Places, bool IsAll) ReasoningBefore(
        List<(ItemSide Side, int Index, JsonElement Item)> items, int end)
    {
        List<(ItemSide, int)> places = [];
        foreach (var (side, index, item) in items.Take(end).Reverse().Where(one => one.Item.ValueKind != JsonValueKind.Null))
        {
            if (!Has(item, "type", "reasoning"))
            {
                return (places, false);
            }

            places.Add((side, index));
        }

        return (places, true);
    }

    private static bool IsMadeByModel(ItemSide side, JsonElement item) => item.ValueKind switch
    {
        JsonValueKind.Object => Has(item, "type", "function_call") || Has(item, "type", "mcp_call") || Has(item, "role", "assistant"),
        JsonValueKind.Undefined => side == ItemSide.Output,
        _ => false,
    };

    // Texts are undefined, and what was deleted is null.
    private static List<(ItemSide Side, int Index, JsonElement Item)> ItemsOf(Turn turn) =>
        [.. ItemsOf(ItemSide.Input, turn.Input), .. ItemsOf(ItemSide.Output, turn.Output)];

    private static IEnumerable<(ItemSide Side, int Index, JsonElement Item)> ItemsOf(ItemSide side, Items items) => items.Form switch
    {
        ItemsForm.None => [],
        ItemsForm.Text => [(side, 0, default)],
        _ => JsonElement.Parse(items.Bytes.Span).EnumerateArray().Select((item, index) => (side, index, item)),
    };

    private static bool Has(JsonElement item, string property, string text) =>
        item.ValueKind == JsonValueKind.Object && item.TryGetProperty(property, out var value)
        && value.ValueKind == JsonValueKind.String && value.ValueEquals(text);

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
