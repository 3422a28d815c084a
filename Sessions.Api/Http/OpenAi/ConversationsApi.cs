using System.Text.Json;
using Microsoft.AspNetCore.Mvc;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Http.Auth;
using Sessions.Api.Storage;

namespace Sessions.Api.Http.OpenAi;

/// <summary><c>/v1/conversations</c>.</summary>
internal static class ConversationsApi
{
    private const int MaxItemsAtOnce = 1000;

    /// <summary>Maps the endpoints.</summary>
    public static void MapConversations(this RouteGroupBuilder v1)
    {
        var conversations = v1.MapGroup("/conversations").WithTags("OpenAI: conversations").Problems(StatusCodes.Status404NotFound);
        conversations.MapPost("", CreateAsync)
            .WithName("createConversation")
            .WithSummary("Create a conversation")
            .WithDescription("With up to 1,000 items.")
            .TakesContent();
        conversations.MapGet("", ListAsync)
            .WithName("listConversations")
            .WithSummary("List a user's conversations, newest activity first")
            .WithDescription("Beyond OpenAI's own API.");
        conversations.MapGet("/{conversation_id}", GetAsync)
            .WithName("getConversation")
            .WithSummary("Get a conversation")
            .WithDescription("Any session is one, by its own id too.");
        conversations.MapPost("/{conversation_id}", UpdateAsync)
            .WithName("updateConversation")
            .WithSummary("Replace a conversation's metadata")
            .WithDescription("All of it.");
        conversations.MapDelete("/{conversation_id}", DeleteAsync)
            .WithName("deleteConversation")
            .WithSummary("Delete a conversation")
            .WithDescription("Its items go with it.");
        conversations.MapGet("/{conversation_id}/items", ListItemsAsync)
            .WithName("listConversationItems")
            .WithSummary("List a conversation's items")
            .WithDescription("Newest first, unless order says otherwise.");
        conversations.MapPost("/{conversation_id}/items", AddItemsAsync)
            .WithName("createConversationItems")
            .WithSummary("Add items to a conversation, all or none")
            .WithDescription("No agent runs.")
            .TakesContent();
        conversations.MapGet("/{conversation_id}/items/{item_id}", GetItemAsync)
            .WithName("getConversationItem")
            .WithSummary("Get an item of a conversation")
            .WithDescription("As it was stored.");
        conversations.MapDelete("/{conversation_id}/items/{item_id}", DeleteItemAsync)
            .WithName("deleteConversationItem")
            .WithSummary("Delete an item of a conversation")
            .WithDescription("Answers with the conversation.");
    }

    private static async Task<IResult> CreateAsync(
        Body<JsonBody> body, Caller caller, SessionOwner owner, HttpContext http, SessionLog log, TurnRunner turns, TimeProvider time,
        CancellationToken cancellationToken)
    {
        var fields = new Fields(body.Value.Value);
        fields.RequireKnown("metadata", "items");
        var metadata = OpenAiMetadata.Read(fields.Any("metadata")) ?? [];
        var items = fields.Array("items") is { } given ? ReadItems(given) : [];
        var idempotency = RequestKeys.Read(http.Request.Headers, "conversations", caller.KeyScope(owner.Value), body.Value.Value);
        var (newId, key) = SessionKey.NewWithId(time);
        var created = new NewSession(
            newId, key, SessionKind.Conversation, owner.Value.UserId,
            OpenAiMetadata.Store(metadata), SessionOrigin.Api);
        var (session, replayed) = await log.CreateAsync(created, isOwnId: false, idempotency, owner.Value, cancellationToken);
        RequestKeys.MarkReplayed(http, replayed);
        if (items.Count > 0)
        {
            try
            {
                var added = Items.OfJson(ItemJson.Join([.. items.Select(item => item.Raw)]));
                await AppendAsync(
                    session, owner.Value, added, idempotency, http, append => turns.AppendAsync(append, cancellationToken));
            }
            catch (Exception e) when (!replayed
                && (idempotency is null || e is OpenAiException { Error.Status: StatusCodes.Status400BadRequest }))
            {
                // All or nothing: without its items it was not created. With a key, a repeat of the request may have found it meanwhile
                // and have added them; or it will. Only items that are refused are refused every time.
                await log.DeleteAsync(SessionRef.ByKey(session.Key), owner.Value, CancellationToken.None);
                throw;
            }
        }

        return Answer(session);
    }

    private static async Task<IResult> ListAsync(
        SessionOwner owner, HttpRequest request, SessionLog log, LimitSettings limits, CancellationToken cancellationToken)
    {
        var page = ListPage.Read(request.Query);
        if (owner.Value.UserId is not { } userId)
        {
            throw new OpenAiException(
                "user_id", "Conversations are listed for a user: name it in the query, as ?user_id=….", "missing_required_parameter");
        }

        PageCursor? after = null;
        if (page.After is { } id)
        {
            after = await log.FindAsync(id, owner.Value, cancellationToken) is { } last
                ? new PageCursor(last.LastActivityAt.ToMicroseconds(), last.Id)
                : throw new OpenAiException(OpenAiError.NotFound("Conversation", id) with { Param = "after" });
        }

        var sessions = await log.ListAsync(
            new SessionPageRequest
            {
                UserId = userId,
                Limit = page.Limit,
                MaxBytes = limits.PageBytes,
                After = after,
                Ascending = !page.Descending,
            },
            filter: null,
            cancellationToken);
        return new JsonResult(Json.Write(sessions, static (json, sessions) =>
        {
            json.WriteStartObject();
            json.WriteString("object"u8, "list"u8);
            json.WriteStartArray("data"u8);
            foreach (var session in sessions.Items)
            {
                Conversations.Write(json, session);
            }

            json.WriteEndArray();
            ConversationItems.WriteEnd(
                json, IdOf(sessions.Items, 0), IdOf(sessions.Items, sessions.Items.Count - 1), sessions.Next is not null);
            json.WriteEndObject();
        }));

        static string? IdOf(IReadOnlyList<Session> sessions, int index) =>
            index >= 0 && index < sessions.Count ? ConversationId.Of(sessions[index].Key) : null;
    }

    private static async Task<IResult> GetAsync(
        [FromRoute(Name = "conversation_id")] string id, SessionOwner owner, SessionLog log,
        CancellationToken cancellationToken) =>
        await log.FindAsync(id, owner.Value, cancellationToken) is { } session ? Answer(session) : OpenAiError.NotFound("Conversation", id);

    private static async Task<IResult> UpdateAsync(
        [FromRoute(Name = "conversation_id")] string id, Body<JsonBody> body, SessionOwner owner, SessionLog log,
        CancellationToken cancellationToken)
    {
        var fields = new Fields(body.Value.Value);
        fields.RequireKnown("metadata");
        var metadata = OpenAiMetadata.Read(body.Value.Value.TryGetProperty("metadata", out var given) ? given : null)
            ?? (given.ValueKind == JsonValueKind.Null ? [] : throw OpenAiException.Missing("metadata"));
        return await log.FindAsync(id, owner.Value, cancellationToken) is { } found
            && await log.ChangeMetadataAsync(
                SessionRef.ByKey(found.Key), owner.Value, session => OpenAiMetadata.Replace(session, metadata), cancellationToken)
                is { } changed
            ? Answer(changed)
            : OpenAiError.NotFound("Conversation", id);
    }

    private static async Task<IResult> DeleteAsync(
        [FromRoute(Name = "conversation_id")] string id, SessionOwner owner, SessionLog log,
        CancellationToken cancellationToken)
    {
        SessionRef conversation;
        var name = id;
        try
        {
            if (await log.FindAsync(id, owner.Value, cancellationToken) is not { } found)
            {
                return OpenAiError.NotFound("Conversation", id);
            }

            (conversation, name) = (SessionRef.ByKey(found.Key), ConversationId.Of(found.Key));
        }
        catch (StoredDataException)
        {
            // What can't be read can be deleted all the same.
            conversation = await log.RefOfAsync(id, cancellationToken);
        }

        return await log.DeleteAsync(conversation, owner.Value, cancellationToken)
            ? Conversations.Deleted(name, "conversation.deleted")
            : OpenAiError.NotFound("Conversation", id);
    }

    private static async Task<IResult> ListItemsAsync(
        [FromRoute(Name = "conversation_id")] string id, SessionOwner owner, HttpRequest request, SessionLog log,
        LimitSettings limits, CancellationToken cancellationToken)
    {
        var page = ListPage.Read(request.Query);
        return await log.FindAsync(id, owner.Value, cancellationToken) is { } session
            && await ConversationItems.ReadAsync(log, session, owner.Value, page, limits.PageBytes, cancellationToken)
                is var (items, hasMore)
            ? ConversationItems.List(items, hasMore)
            : OpenAiError.NotFound("Conversation", id);
    }

    private static async Task<IResult> AddItemsAsync(
        [FromRoute(Name = "conversation_id")] string id, Body<JsonBody> body, Caller caller, SessionOwner owner, HttpContext http,
        SessionLog log, StoredItems stored, RepeatedRequests repeated, CancellationToken cancellationToken)
    {
        var fields = new Fields(body.Value.Value);
        fields.RequireKnown("items");
        var items = ReadItems(fields.RequiredArray("items"));
        _ = ListPage.Read(http.Request.Query);
        if (items.Count == 0)
        {
            throw new OpenAiException("items", "Invalid 'items': must hold at least one item.", "empty_array");
        }

        var actor = caller.ActingFor(owner);
        if (await log.FindAsync(id, actor, cancellationToken) is not { } session)
        {
            return OpenAiError.NotFound("Conversation", id);
        }

        // Those that are there already are told with the others, and not added again.
        var resolved = await stored.ResolveAsync(
            items, "items", session, session.LastTurn, actor, tellsKnown: true, cancellationToken);
        var added = ResolvedItem.NewOnes(resolved);
        if (added.IsNone)
        {
            return ConversationItems.List([.. resolved.Select(item => item.Known!.Value)], hasMore: false);
        }

        var (scope, sent) = (caller.KeyScope(actor), body.Value.Value);
        var idempotency = RequestKeys.Read(http.Request.Headers, "items", scope, ConversationId.Of(session.Key), sent);
        var result = await AppendAsync(
            session, actor, added, idempotency, http,
            append => repeated.AppendAsync(http, scope, sent, append, cancellationToken));
        RequestKeys.MarkReplayed(http, result.Replayed);
        var made = new Queue<TurnItem>(ItemJson.Of(result.SessionKey, result.Turn));
        List<TurnItem> told = [];
        foreach (var item in resolved)
        {
            if (item.Known is { } known)
            {
                told.Add(known);
            }
            else if (made.TryDequeue(out var one))
            {
                told.Add(one);
            }
        }

        return ConversationItems.List(told, hasMore: false);
    }

    private static async Task<IResult> GetItemAsync(
        [FromRoute(Name = "conversation_id")] string id, [FromRoute(Name = "item_id")] string itemId, SessionOwner owner,
        HttpRequest request, SessionLog log, CancellationToken cancellationToken)
    {
        _ = ListPage.Read(request.Query);
        if (await log.FindAsync(id, owner.Value, cancellationToken) is not { } session)
        {
            return OpenAiError.NotFound("Conversation", id);
        }

        return await FindItemAsync(log, session, itemId, owner.Value, cancellationToken) is { } item
            ? new JsonResult(ItemJson.WithId(item.IdText, item.Raw.Span))
            : OpenAiError.NotFound("Item", itemId);
    }

    private static async Task<IResult> DeleteItemAsync(
        [FromRoute(Name = "conversation_id")] string id, [FromRoute(Name = "item_id")] string itemId, SessionOwner owner,
        SessionLog log, CancellationToken cancellationToken)
    {
        if (await log.FindAsync(id, owner.Value, cancellationToken) is not { } session)
        {
            return OpenAiError.NotFound("Conversation", id);
        }

        return await FindItemAsync(log, session, itemId, owner.Value, cancellationToken) is { } item
            && await log.DeleteItemAsync(item.Id, owner.Value, cancellationToken) is { } changed
            ? Answer(changed)
            : OpenAiError.NotFound("Item", itemId);
    }

    // By its whole id, prefix and all: each item has one.
    private static async ValueTask<TurnItem?> FindItemAsync(
        SessionLog log, Session session, string itemId, Owner owner, CancellationToken cancellationToken) =>
        ItemId.TryParse(itemId, out var id) && id.Key == session.Key
        && await log.FindTurnAsync(id.Key, id.Nonce, owner, cancellationToken) is { } found
        && Conversations.ItemOf(found.Turn, id) is { } item && item.IdText == itemId
            ? item
            : null;

    private static List<InputItem> ReadItems(JsonElement given)
    {
        if (given.GetArrayLength() > MaxItemsAtOnce)
        {
            throw new OpenAiException("items", $"Invalid 'items': must hold at most {MaxItemsAtOnce} items.", "array_above_max_length");
        }

        var items = InputItems.Read(given, "items");
        var reference = items.FindIndex(item => item.Type == InputItem.Reference);
        return reference < 0 ? items
            : throw new OpenAiException(
                $"items[{reference}].type",
                $"Invalid value: '{InputItem.Reference}'. Items that are added stand for themselves.");
    }

    private static async Task<TurnResult> AppendAsync(
        Session session, Owner owner, Items items, Idempotency? idempotency, HttpContext http,
        Func<AppendCommand, Task<TurnResult>> appendAsync)
    {
        var append = new AppendCommand
        {
            Session = SessionRef.ById(session.Id),
            MustExist = true,
            Owner = owner,
            Input = items,
            Output = Items.None,
            Idempotency = idempotency,
            CalledFrom = http.Request.Headers[AgentHeaders.SessionId],
        };
        try
        {
            return await appendAsync(append);
        }
        catch (DomainException e)
        {
            // The field has another name here than in a query; and what has gone since it was looked for is told in the words for what
            // was never there.
            throw new OpenAiException(e.Error.Code == "session_not_found"
                ? OpenAiError.NotFound("Conversation", ConversationId.Of(session.Key))
                : OpenAiError.From(e.Error) is { Param: "input" } error ? error with { Param = "items" }
                : OpenAiError.From(e.Error));
        }
    }

    private static JsonResult Answer(Session session) => new(Json.Write(session, Conversations.Write));
}
