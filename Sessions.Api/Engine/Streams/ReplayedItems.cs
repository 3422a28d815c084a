using System.Runtime.InteropServices;
using System.Text.Json;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Streams;

/// <summary>The events of an output that is told at once, as it stands in the log: each item is added, told in one piece, and
/// done.</summary>
internal static class ReplayedItems
{
    private static readonly byte[] EmptyMessage =
        """{"type":"message","role":"assistant","status":"in_progress","content":[]}"""u8.ToArray();

    /// <summary>The events of these items.</summary>
    public static IEnumerable<TurnEvent> Of(Items output)
    {
        if (output.Form == ItemsForm.Text)
        {
            var text = new Utf8Text(output.Bytes);
            yield return new ItemAdded(0, "message", EmptyMessage);
            yield return new TextDelta(0, 0, text);
            yield return new ItemDone(0, "message", MessageItem.Write("assistant", text));
            yield break;
        }

        if (output.Form != ItemsForm.Json)
        {
            yield break;
        }

        using var array = JsonDocument.Parse(output.Bytes);
        var index = -1;
        foreach (var item in array.RootElement.EnumerateArray())
        {
            index++;
            if (item.ValueKind != JsonValueKind.Object)
            {
                continue;
            }

            var type = item.TryGetProperty("type", out var named) && named.ValueKind == JsonValueKind.String
                ? named.GetString()!
                : "message";
            foreach (var told in Of(index, type, item))
            {
                yield return told;
            }
        }
    }

    private static IEnumerable<TurnEvent> Of(int index, string type, JsonElement item)
    {
        var raw = JsonMarshal.GetRawUtf8Value(item).ToArray();
        if (type == "message")
        {
            yield return new ItemAdded(index, type, EmptyMessage);
            var part = 0;
            foreach (var content in item.TryGetProperty("content", out var parts) && parts.ValueKind == JsonValueKind.Array
                ? parts.EnumerateArray()
                : [])
            {
                if (content.TryGetProperty("text", out var text) && text.ValueKind == JsonValueKind.String)
                {
                    yield return new TextDelta(index, part, text.GetString()!);
                }
                else if (content.TryGetProperty("refusal", out var refusal) && refusal.ValueKind == JsonValueKind.String)
                {
                    yield return new TextDelta(index, part, refusal.GetString()!) { IsRefusal = true };
                }

                part++;
            }
        }
        else if (type == "function_call")
        {
            yield return new ItemAdded(index, type, WithoutArguments(item));
            yield return new ArgumentsDelta(index, item.TryGetProperty("arguments", out var arguments) ? arguments.GetString() ?? "" : "");
        }
        else if (type == "mcp_call")
        {
            yield return new ItemAdded(index, type, WithoutArguments(item));
            yield return new ToolStarted(index);
            yield return new ArgumentsDelta(index, item.TryGetProperty("arguments", out var arguments) ? arguments.GetString() ?? "" : "");
            yield return new ToolEnded(index, item.TryGetProperty("error", out var error) && error.ValueKind != JsonValueKind.Null);
        }
        else
        {
            yield return new ItemAdded(index, type, raw);
        }

        yield return new ItemDone(index, type, raw);
    }

    private static byte[] WithoutArguments(JsonElement call)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            foreach (var property in call.EnumerateObject())
            {
                if (property.NameEquals("arguments"))
                {
                    json.WriteString("arguments", "");
                }
                else if (property.NameEquals("status"))
                {
                    json.WriteString("status", "in_progress");
                }
                else if (property.Name is "output" or "error")
                {
                    json.WriteNull(property.Name);
                }
                else
                {
                    property.WriteTo(json);
                }
            }

            json.WriteEndObject();
        }

        return buffer.ToArray();
    }
}
