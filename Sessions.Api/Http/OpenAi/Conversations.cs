using System.Text.Json;
using Sessions.Api.Domain;

namespace Sessions.Api.Http.OpenAi;

/// <summary>Sessions as conversations.</summary>
internal static class Conversations
{
    /// <summary>The item of a turn with that id; <see langword="null"/> where it was deleted, or never was.</summary>
    public static TurnItem? ItemOf(Turn turn, ItemId id)
    {
        foreach (var item in ItemJson.Of(id.Key, id.Nonce, id.Side, id.Side == ItemSide.Input ? turn.Input : turn.Output))
        {
            if (item.Id.Index == id.Index)
            {
                return item;
            }
        }

        return null;
    }

    /// <summary>A conversation as it is answered.</summary>
    public static void Write(Utf8JsonWriter json, Session session)
    {
        json.WriteStartObject();
        json.WriteString("id"u8, ConversationId.Of(session.Key));
        json.WriteString("object"u8, "conversation"u8);
        json.WriteNumber("created_at"u8, session.CreatedAt.ToUnixTimeSeconds());
        json.WritePropertyName("metadata"u8);
        OpenAiMetadata.Write(json, OpenAiMetadata.Of(session));
        json.WriteEndObject();
    }

    /// <summary>Something was deleted.</summary>
    public static JsonResult Deleted(string id, string kind) => new(Json.Write((id, kind), static (json, x) =>
    {
        json.WriteStartObject();
        json.WriteString("id"u8, x.id);
        json.WriteString("object"u8, x.kind);
        json.WriteBoolean("deleted"u8, true);
        json.WriteEndObject();
    }));
}
