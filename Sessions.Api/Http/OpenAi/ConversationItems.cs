using System.Globalization;
using System.Text.Json;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Storage;

namespace Sessions.Api.Http.OpenAi;

/// <summary>Which page of a list is wanted: <c>limit</c>, <c>order</c>, <c>after</c>.</summary>
/// <param name="Limit">How many entries.</param>
/// <param name="After">The id of the entry behind which it starts.</param>
/// <param name="Descending">Newest first.</param>
internal readonly record struct ListPage(int Limit, string? After, bool Descending)
{
    private const int DefaultLimit = 20;
    private const int MaxLimit = 100;

    /// <summary>Reads the query parameters; also refuses unknown values of <c>include</c>.</summary>
    /// <exception cref="OpenAiException">One of them is not allowed.</exception>
    public static ListPage Read(IQueryCollection query)
    {
        foreach (var (name, values) in query)
        {
            if (values.Count > 1 && name is not ("include" or "include[]"))
            {
                throw new OpenAiException(Error.Shorten(name), $"Invalid '{Error.Shorten(name)}': must be given once.");
            }
        }

        var limit = DefaultLimit;
        if (query.TryGetValue("limit", out var text)
            && (!int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out limit) || limit is < 1 or > MaxLimit))
        {
            throw new OpenAiException(
                "limit",
                $"Invalid 'limit': must be a whole number from 1 to {MaxLimit}.",
                limit < 1 ? "invalid_value" : "integer_above_max_value");
        }

        foreach (var name in (ReadOnlySpan<string>)["include", "include[]"])
        {
            foreach (var value in query[name])
            {
                ResponseRequest.CheckInclude(value, name);
            }
        }

        return new(limit, query["after"] is [{ Length: > 0 } after] ? after : null, query["order"].ToString() switch
        {
            "" or "desc" => true,
            "asc" => false,
            _ => throw new OpenAiException("order", "Invalid value for 'order'. Supported values are: asc, desc."),
        });
    }
}

/// <summary>Pages of items, across the turns that they stand in.</summary>
internal static class ConversationItems
{
    // Most turns have two items.
    private const int TurnsAtOnce = 50;

    /// <summary>Reads one page of a conversation's items.</summary>
    /// <returns>The items, and whether there are more; <see langword="null"/> where there is no such conversation.</returns>
    /// <exception cref="OpenAiException">The item to start behind is not there.</exception>
    public static async ValueTask<(List<TurnItem> Items, bool HasMore)?> ReadAsync(
        SessionLog log, Session head, Owner owner, ListPage page, int pageBytes, CancellationToken cancellationToken)
    {
        var start = await StartAsync(log, head, owner, page, cancellationToken);
        List<TurnItem> items = [];
        long bytes = 0;

        // From the turn of that item on: the turn before it, in the order asked for, is what pages of turns start behind.
        int? after = start?.Turn.Number is { } number ? page.Descending ? number + 1 : number - 1 : null;
        while (true)
        {
            var request = new TurnPageRequest { Limit = TurnsAtOnce, MaxBytes = pageBytes, After = after, Descending = page.Descending };
            if (await log.ReadTurnsAsync(SessionRef.ByKey(head.Key), owner, request, cancellationToken) is not { } turns)
            {
                return null;
            }

            foreach (var turn in turns.Turns)
            {
                foreach (var item in InOrder(head.Key, turn, page.Descending))
                {
                    if (start is { } place && turn.Number == place.Turn.Number && !IsBehind(item.Id, place.Id, page.Descending))
                    {
                        continue;
                    }

                    if (!TryAdd(items, item, page.Limit, pageBytes, ref bytes))
                    {
                        return (items, true);
                    }
                }

                after = turn.Number;
            }

            if (!turns.HasMore)
            {
                return (items, false);
            }
        }
    }

    /// <summary>One page of what a response was made of.</summary>
    /// <exception cref="OpenAiException">The item to start behind is not there.</exception>
    public static (List<TurnItem> Items, bool HasMore) OfInput(ResponseId response, Items input, ListPage page, int pageBytes)
    {
        var all = ItemJson.Of(response.Key, response.Nonce, ItemSide.Input, input);
        if (page.Descending)
        {
            all.Reverse();
        }

        var start = 0;
        if (page.After is { } after)
        {
            start = all.FindIndex(item => item.IdText == after) + 1;
            if (start == 0)
            {
                throw new OpenAiException("after", $"Item with id '{Error.Shorten(after)}' not found.", code: null);
            }
        }

        List<TurnItem> items = [];
        long bytes = 0;
        foreach (var item in all.Skip(start))
        {
            if (!TryAdd(items, item, page.Limit, pageBytes, ref bytes))
            {
                return (items, true);
            }
        }

        return (items, false);
    }

    /// <summary>A list of items as it is answered.</summary>
    public static JsonResult List(List<TurnItem> items, bool hasMore) => new(Json.Write((items, hasMore), static (json, x) =>
    {
        json.WriteStartObject();
        json.WriteString("object"u8, "list"u8);
        json.WriteStartArray("data"u8);
        foreach (var item in x.items)
        {
            item.Write(json);
        }

        json.WriteEndArray();
        WriteEnd(json, x.items.Count > 0 ? x.items[0].IdText : null, x.items.Count > 0 ? x.items[^1].IdText : null, x.hasMore);
        json.WriteEndObject();
    }));

    /// <summary>The end of a list.</summary>
    public static void WriteEnd(Utf8JsonWriter json, string? firstId, string? lastId, bool hasMore)
    {
        json.WriteString("first_id"u8, firstId);
        json.WriteString("last_id"u8, lastId);
        json.WriteBoolean("has_more"u8, hasMore);
    }

    private static async ValueTask<(Turn Turn, ItemId Id)?> StartAsync(
        SessionLog log, Session head, Owner owner, ListPage page, CancellationToken cancellationToken)
    {
        if (page.After is not { } after)
        {
            return null;
        }

        // It may have been deleted since: its place is still taken.
        return ItemId.TryParse(after, out var id)
            && id.Key == head.Key
            && await log.FindTurnAsync(id.Key, id.Nonce, owner, cancellationToken) is { } found
            ? (found.Turn, id)
            : throw new OpenAiException("after", $"Item with id '{Error.Shorten(after)}' not found.", code: null);
    }

    // A page holds at least one, however large.
    private static bool TryAdd(List<TurnItem> items, TurnItem item, int limit, int pageBytes, ref long bytes)
    {
        if (items.Count == limit || (items.Count > 0 && bytes + item.Raw.Length > pageBytes))
        {
            return false;
        }

        items.Add(item);
        bytes += item.Raw.Length;
        return true;
    }

    private static List<TurnItem> InOrder(Guid key, Turn turn, bool descending)
    {
        var items = ItemJson.Of(key, turn);
        if (descending)
        {
            items.Reverse();
        }

        return items;
    }

    private static bool IsBehind(ItemId item, ItemId place, bool descending)
    {
        var order = item.Side != place.Side ? item.Side.CompareTo(place.Side) : item.Index.CompareTo(place.Index);
        return descending ? order < 0 : order > 0;
    }
}
