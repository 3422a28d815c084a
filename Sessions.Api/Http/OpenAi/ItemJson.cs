using System.Buffers;
using System.Text;
using System.Text.Json;
using Sessions.Api.Domain;
using Sessions.Api.Engine;

namespace Sessions.Api.Http.OpenAi;

/// <summary>An item of a turn, as it is answered.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Type">Its type.</param>
/// <param name="Raw">The item in JSON without its id.</param>
internal readonly record struct TurnItem(ItemId Id, string Type, ReadOnlyMemory<byte> Raw)
{
    /// <summary>Its id as clients see it.</summary>
    public string IdText => Id.ToString(Type);

    /// <summary>Writes the item: its id first, then what is kept, as it is.</summary>
    public void Write(Utf8JsonWriter json) => json.WriteRawValue(ItemJson.WithId(IdText, Raw.Span), skipInputValidation: true);
}

/// <summary>Items of turns in JSON, with the ids that they have by where they stand.</summary>
internal static class ItemJson
{
    /// <summary>The items of one side of a turn, in order, without those that were deleted.</summary>
    public static List<TurnItem> Of(Guid sessionKey, TurnNonce nonce, ItemSide side, Items items)
    {
        List<TurnItem> found = [];
        if (items.Form == ItemsForm.Text)
        {
            found.Add(new TurnItem(
                new ItemId(sessionKey, nonce, side, 0),
                "message",
                MessageItem.Write(side == ItemSide.Input ? "user" : "assistant", new Utf8Text(items.Bytes))));
        }
        else if (items.Form == ItemsForm.Json)
        {
            var index = 0;
            foreach (var raw in Split(items.Bytes))
            {
                if (raw.Span[0] == (byte)'{')
                {
                    found.Add(new TurnItem(new ItemId(sessionKey, nonce, side, index), TypeOf(raw.Span), raw));
                }

                index++;
            }
        }

        return found;
    }

    /// <summary>All items of a turn, in order.</summary>
    public static List<TurnItem> Of(Guid sessionKey, Turn turn) =>
        [.. Of(sessionKey, turn.Nonce, ItemSide.Input, turn.Input), .. Of(sessionKey, turn.Nonce, ItemSide.Output, turn.Output)];

    /// <summary>Items as a JSON array, as they are answered.</summary>
    public static RawJson Array(List<TurnItem> items) => new(Json.Write(items, static (json, items) =>
    {
        json.WriteStartArray();
        foreach (var item in items)
        {
            item.Write(json);
        }

        json.WriteEndArray();
    }));

    /// <summary>The elements of a JSON array, each as its own bytes.</summary>
    public static List<ReadOnlyMemory<byte>> Split(ReadOnlyMemory<byte> array)
    {
        List<ReadOnlyMemory<byte>> elements = [];
        var reader = new Utf8JsonReader(array.Span, new JsonReaderOptions { MaxDepth = 128 });
        reader.Read();
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            var start = (int)reader.TokenStartIndex;
            reader.Skip();
            elements.Add(array[start..(int)reader.BytesConsumed]);
        }

        return elements;
    }

    /// <summary>A JSON array of such elements.</summary>
    public static ReadOnlyMemory<byte> Join(IReadOnlyList<ReadOnlyMemory<byte>> elements)
    {
        var buffer = new ArrayBufferWriter<byte>(elements.Sum(element => element.Length + 1) + 2);
        buffer.Write("["u8);
        for (var i = 0; i < elements.Count; i++)
        {
            if (i > 0)
            {
                buffer.Write(","u8);
            }

            buffer.Write(elements[i].Span);
        }

        buffer.Write("]"u8);
        return buffer.WrittenMemory;
    }

    /// <summary>An object with an id in front of what it holds.</summary>
    public static byte[] WithId(string id, ReadOnlySpan<byte> raw)
    {
        // Ids are letters, digits and an underscore.
        var rest = raw[1..].TrimStart(" \t\r\n"u8);
        return [.. "{\"id\":\""u8, .. Encoding.ASCII.GetBytes(id), .. rest is [(byte)'}', ..] ? "\""u8 : "\","u8, .. rest];
    }

    /// <summary>The type of an item.</summary>
    public static string TypeOf(ReadOnlySpan<byte> raw)
    {
        var reader = new Utf8JsonReader(raw, new JsonReaderOptions { MaxDepth = 128 });
        reader.Read();
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals("type"u8))
            {
                reader.Read();
                return reader.TokenType == JsonTokenType.String ? reader.GetString()! : "message";
            }

            reader.Read();
            reader.Skip();
        }

        return "message";
    }
}
