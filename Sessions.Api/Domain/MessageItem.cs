using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace Sessions.Api.Domain;

/// <summary>A message of one text as an item in JSON, without its id: the form that <see cref="ItemsForm.Text"/> stands for.</summary>
internal static class MessageItem
{
    private static readonly JsonWriterOptions Options =
        new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };

    /// <summary>Writes it.</summary>
    /// <param name="role"><c>user</c> or <c>assistant</c>.</param>
    /// <param name="text">The text.</param>
    public static byte[] Write(string role, Utf8Text text)
    {
        var buffer = new ArrayBufferWriter<byte>(text.Length + 160);
        using (var json = new Utf8JsonWriter(buffer, Options))
        {
            json.WriteStartObject();
            json.WriteString("type"u8, "message"u8);
            json.WriteString("role"u8, role);
            json.WriteString("status"u8, "completed"u8);
            json.WriteStartArray("content"u8);
            json.WriteStartObject();
            if (role == "assistant")
            {
                json.WriteString("type"u8, "output_text"u8);
                JsonText.WriteString(json, "text"u8, text.Span);
                json.WriteStartArray("annotations"u8);
                json.WriteEndArray();
                json.WriteStartArray("logprobs"u8);
                json.WriteEndArray();
            }
            else
            {
                json.WriteString("type"u8, "input_text"u8);
                JsonText.WriteString(json, "text"u8, text.Span);
            }

            json.WriteEndObject();
            json.WriteEndArray();
            json.WriteEndObject();
        }

        return buffer.WrittenSpan.ToArray();
    }
}
