using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Unicode;

namespace Sessions.Api.Http.OpenAi;

/// <summary>A request body as it is: a JSON object, whose fields are read one by one.</summary>
[JsonConverter(typeof(Converter))]
internal sealed class JsonBody
{
    private static readonly JsonElement Empty = JsonElement.Parse("{}"u8);

    /// <summary>The object; an empty one where there was no body.</summary>
    public JsonElement Value { get; private init; } = Empty;

    internal sealed class Converter : JsonConverter<JsonBody>
    {
        public override JsonBody Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
            reader.TokenType == JsonTokenType.StartObject ? new JsonBody { Value = Check(JsonElement.ParseValue(ref reader)) } : throw new JsonException();

        // Names and texts can be read from here on: bytes that are no UTF-8, and half a surrogate pair, are found out when they are.
        private static JsonElement Check(JsonElement body)
        {
            var raw = JsonMarshal.GetRawUtf8Value(body);
            if (!Utf8.IsValid(raw) || raw.IndexOf("\\ud"u8) >= 0 || raw.IndexOf("\\uD"u8) >= 0)
            {
                try
                {
                    InputItems.CheckUnicode(body);
                }
                catch (InvalidOperationException)
                {
                    throw new OpenAiException(null, "The body must be valid Unicode: UTF-8, without half surrogate pairs.");
                }
            }

            return body;
        }

        public override void Write(Utf8JsonWriter writer, JsonBody value, JsonSerializerOptions options) => value.Value.WriteTo(writer);
    }
}
