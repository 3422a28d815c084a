using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Unicode;
using Sessions.Api.Domain;

namespace Sessions.Api.Http.OpenAi;

/// <summary>An item as a client sent it, checked and in the form in which it is kept.</summary>
/// <param name="Type">Its type; <c>item_reference</c> stands for a stored item.</param>
/// <param name="Id">The id that it came with, if any: it refers to a stored item, or says nothing.</param>
/// <param name="Raw">The item in JSON without its id.</param>
internal readonly record struct InputItem(string Type, string? Id, ReadOnlyMemory<byte> Raw)
{
    /// <summary>The type of an item that stands for a stored one.</summary>
    public const string Reference = "item_reference";
}

/// <summary>Reads items that clients send: what is not known is refused by name, and what is known is kept as it came, in order.</summary>
internal static class InputItems
{
    private const string Known = "message, function_call, function_call_output, reasoning, item_reference, mcp_call, mcp_list_tools";

    /// <summary>Reads an array of items.</summary>
    /// <param name="items">The array.</param>
    /// <param name="param">How errors name it: <c>input</c> or <c>items</c>.</param>
    /// <exception cref="OpenAiException">Something in it is not allowed.</exception>
    public static List<InputItem> Read(JsonElement items, string param)
    {
        List<InputItem> read = new(items.GetArrayLength());
        foreach (var item in items.EnumerateArray())
        {
            var name = $"{param}[{read.Count}]";
            new Fields(item, $"{name}.").RequireObject();
            CheckUnicode(item, name);
            read.Add(ReadItem(item, name));
        }

        return read;
    }

    /// <summary>One message of the user's, out of a text and parts.</summary>
    /// <param name="text">The text that comes first, if any.</param>
    /// <param name="parts">The parts.</param>
    /// <exception cref="OpenAiException">Something in them is not allowed.</exception>
    public static ReadOnlyMemory<byte> OfParts(Utf8Text? text, JsonElement parts)
    {
        if (parts.ValueKind != JsonValueKind.Array || (parts.GetArrayLength() == 0 && text is null))
        {
            throw new OpenAiException(
                "input", "Invalid type for 'input': expected a list of parts: input_text, input_image, input_file.",
                "invalid_type");
        }

        CheckUnicode(parts, "input");
        CheckParts(parts, "input", "input_text", "input_image", "input_file");
        return Json.Write((text, parts), static (json, x) =>
        {
            json.WriteStartArray();
            json.WriteStartObject();
            json.WriteString("type"u8, "message"u8);
            json.WriteString("role"u8, "user"u8);
            json.WriteString("status"u8, "completed"u8);
            json.WriteStartArray("content"u8);
            if (x.text is { } first)
            {
                json.WriteStartObject();
                json.WriteString("type"u8, "input_text"u8);
                json.WriteString("text"u8, first.Span);
                json.WriteEndObject();
            }

            foreach (var part in x.parts.EnumerateArray())
            {
                part.WriteTo(json);
            }

            json.WriteEndArray();
            json.WriteEndObject();
            json.WriteEndArray();
        });
    }

    private static InputItem ReadItem(JsonElement item, string name)
    {
        var fields = new Fields(item, $"{name}.");
        var id = fields.Text("id");
        var type = fields.Text("type")
            ?? (fields.Any("role") is not null ? "message" : id is not null ? InputItem.Reference
                : throw OpenAiException.Missing($"{name}.type"));
        switch (type)
        {
            case "message":
                CheckMessage(fields, name);
                break;
            case "function_call":
                fields.Name("call_id");
                fields.Name("name");
                fields.RequiredText("arguments");
                break;
            case "function_call_output":
                fields.Name("call_id");
                CheckTextOrParts(fields.Required("output"), $"{name}.output", "input_text", "input_image", "input_file");
                break;
            case "reasoning":
                CheckTexts(fields, "summary", name, "summary_text");
                CheckTexts(fields, "content", name, "reasoning_text");
                fields.Text("encrypted_content");
                break;
            case "mcp_call":
                fields.Name("server_label");
                fields.Name("name");
                fields.RequiredText("arguments");
                fields.Text("output");
                fields.Text("approval_request_id");
                break;
            case "mcp_list_tools":
                fields.Name("server_label");
                CheckTools(fields, name);
                break;
            case InputItem.Reference:
                return new InputItem(type, id ?? throw OpenAiException.Missing($"{name}.id"), default);
            default:
                throw new OpenAiException($"{name}.type", $"Invalid value: '{Error.Shorten(type)}'. Supported values are: {Known}.");
        }

        return new InputItem(type, id, Json.Write((item, type), static (json, x) => Write(json, x.item, x.type)));
    }

    private static void CheckMessage(Fields message, string name)
    {
        if (message.RequiredText("role") is not ("user" or "assistant" or "system" or "developer"))
        {
            throw new OpenAiException(
                $"{name}.role", $"Invalid value for '{name}.role'. Supported values are: user, assistant, system, developer.");
        }

        CheckTextOrParts(
            message.Required("content"), $"{name}.content", "input_text", "output_text", "refusal", "input_image", "input_file");
    }

    private static void CheckTextOrParts(JsonElement content, string name, params ReadOnlySpan<string> allowed)
    {
        if (content.ValueKind == JsonValueKind.Array)
        {
            CheckParts(content, name, allowed);
        }
        else if (content.ValueKind != JsonValueKind.String)
        {
            throw new OpenAiException(name, $"Invalid type for '{name}': expected a text or an array of parts.", "invalid_type");
        }
    }

    private static void CheckParts(JsonElement parts, string name, params ReadOnlySpan<string> allowed)
    {
        var index = 0;
        foreach (var part in parts.EnumerateArray())
        {
            var at = $"{name}[{index++}]";
            var fields = new Fields(part, $"{at}.");
            switch (fields.Word("type", allowed) ?? throw OpenAiException.Missing($"{at}.type"))
            {
                case "input_text" or "output_text" or "summary_text" or "reasoning_text":
                    fields.RequiredText("text");
                    break;
                case "refusal":
                    fields.RequiredText("refusal");
                    break;
                case "input_image":
                    RefuseFileId(fields);
                    fields.RequiredText("image_url");
                    break;
                case "input_file":
                    RefuseFileId(fields);
                    if (fields.Text("file_data") is null && fields.Text("file_url") is null)
                    {
                        throw OpenAiException.Missing($"{at}.file_data");
                    }

                    break;
            }
        }
    }

    private static void RefuseFileId(Fields part) => part.Refuse("file_id", "This server keeps no files: send the content itself.");

    private static void CheckTexts(Fields item, string property, string name, string type)
    {
        if (item.Array(property) is { } texts)
        {
            CheckParts(texts, $"{name}.{property}", type);
        }
    }

    private static void CheckTools(Fields item, string name)
    {
        var index = 0;
        foreach (var tool in item.RequiredArray("tools").EnumerateArray())
        {
            new Fields(tool, $"{name}.tools[{index++}].").Name("name");
        }
    }

    /// <summary>Refuses bytes that are no UTF-8, and half a surrogate pair: what passes can be read.</summary>
    /// <param name="value">What was sent.</param>
    /// <param name="name">How errors name it; <see langword="null"/>: it is the body, and they name the field within it.</param>
    /// <exception cref="OpenAiException">There is such a thing.</exception>
    public static void CheckUnicode(JsonElement value, string? name)
    {
        var raw = JsonMarshal.GetRawUtf8Value(value);
        if (Utf8.IsValid(raw) && raw.IndexOf("\\ud"u8) < 0 && raw.IndexOf("\\uD"u8) < 0)
        {
            return;
        }

        if (FindUnreadable(value) is { } path)
        {
            name ??= path.Length == 0 ? null : Error.Shorten(path.TrimStart('.'));
            throw new OpenAiException(
                name,
                $"Invalid {(name is null ? "body" : $"'{name}'")}: "
                + "texts must be valid Unicode, in UTF-8 and without half surrogate pairs.");
        }
    }

    // The path to the first text that can't be read, or to the object with the name that can't; made on the way back, where there is one.
    private static string? FindUnreadable(JsonElement value)
    {
        try
        {
            switch (value.ValueKind)
            {
                case JsonValueKind.String:
                    value.GetString();
                    break;
                case JsonValueKind.Array:
                    var index = 0;
                    foreach (var element in value.EnumerateArray())
                    {
                        if (FindUnreadable(element) is { } within)
                        {
                            return $"[{index}]{within}";
                        }

                        index++;
                    }

                    break;
                case JsonValueKind.Object:
                    foreach (var property in value.EnumerateObject())
                    {
                        var name = property.Name;
                        if (FindUnreadable(property.Value) is { } within)
                        {
                            return $".{name}{within}";
                        }
                    }

                    break;
            }

            return null;
        }
        catch (InvalidOperationException)
        {
            return "";
        }
    }

    private static void Write(Utf8JsonWriter json, JsonElement item, string type)
    {
        json.WriteStartObject();
        json.WriteString("type"u8, type);
        var isDone = type is "message" or "function_call" or "function_call_output" || (type == "mcp_call" && !Has(item, "status"));
        if (isDone)
        {
            json.WriteString("status"u8, "completed"u8);
        }

        var role = type == "message" ? item.GetProperty("role").GetString() : null;
        foreach (var property in item.EnumerateObject())
        {
            if (property.NameEquals("id") || property.NameEquals("type")
                || (property.NameEquals("status") && isDone))
            {
                continue;
            }

            if (type == "reasoning" && property.NameEquals("summary") && property.Value.ValueKind == JsonValueKind.Null)
            {
                continue;
            }

            if (type == "message" && property.NameEquals("content"))
            {
                json.WritePropertyName("content"u8);
                WriteContent(json, property.Value, role == "assistant" ? "output_text" : "input_text");
            }
            else
            {
                property.WriteTo(json);
            }
        }

        if (type == "reasoning" && !Has(item, "summary"))
        {
            json.WriteStartArray("summary"u8);
            json.WriteEndArray();
        }

        json.WriteEndObject();
    }

    private static void WriteContent(Utf8JsonWriter json, JsonElement content, string textType)
    {
        json.WriteStartArray();
        if (content.ValueKind == JsonValueKind.String)
        {
            json.WriteStartObject();
            json.WriteString("type"u8, textType);
            json.WriteString("text"u8, content.GetString());
            if (textType == "output_text")
            {
                WriteEmptyArrays(json, default);
            }

            json.WriteEndObject();
        }
        else
        {
            foreach (var part in content.EnumerateArray())
            {
                if (part.GetProperty("type").ValueEquals("output_text"))
                {
                    json.WriteStartObject();
                    foreach (var property in part.EnumerateObject())
                    {
                        if (property.Value.ValueKind != JsonValueKind.Null)
                        {
                            property.WriteTo(json);
                        }
                    }

                    WriteEmptyArrays(json, part);
                    json.WriteEndObject();
                }
                else
                {
                    part.WriteTo(json);
                }
            }
        }

        json.WriteEndArray();
    }

    // Clients that read items take these to be there.
    private static void WriteEmptyArrays(Utf8JsonWriter json, JsonElement part)
    {
        foreach (var name in (ReadOnlySpan<string>)["annotations", "logprobs"])
        {
            if (part.ValueKind != JsonValueKind.Object || !Has(part, name))
            {
                json.WriteStartArray(name);
                json.WriteEndArray();
            }
        }
    }

    // null is like absent.
    private static bool Has(JsonElement item, string property) =>
        item.TryGetProperty(property, out var value) && value.ValueKind != JsonValueKind.Null;
}
